//! Flows whose every octet is looked at when it arrives.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How long a flow may stand still.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take in all: a flow that only drips is broken, too.
const LIMIT: Duration = Duration::from_secs(30);

/// What is sent, again and again. Its length is a prime, so that nothing that is lost, doubled or out of place
/// leaves the rest in step.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state: u32 = 0x9e37_79b9;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(65_521).collect()
});

/// The octets at `offset` of an endless stream, up to the pattern's end.
fn expected(offset: usize) -> &'static [u8] {
    &PATTERN[offset % PATTERN.len()..]
}

/// Sends `octets` by TCP from the namespace at `from` to `target`, an address in the one at `to`, and as many
/// back.
///
/// # Errors
/// Which way, after how many octets, and why: no connection, nothing more within five seconds, not all
/// within thirty, or another octet than was sent.
pub fn exchange(from: &Path, to: &Path, target: IpAddr, octets: usize) -> Result<(), String> {
    let bound = weft_lab::in_netns(to, move || TcpListener::bind(SocketAddr::new(target, 0)));
    let listener = bound.map_err(|e| format!("cannot listen at {target}: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("no address: {e}"))?;
    let there = std::thread::spawn(move || -> Result<(), String> {
        let mut stream = accept(&listener).map_err(|e| format!("nobody connects: {e}"))?;
        receive(&mut stream, octets).map_err(|e| format!("there: {e}"))?;
        send(&mut stream, octets).map_err(|e| format!("back: {e}"))
    });
    let connected =
        weft_lab::in_netns(from, move || TcpStream::connect_timeout(&address, PATIENCE));
    let here =
        connected.map_err(|e| format!("no connection to {address}: {e}")).and_then(|mut stream| {
            limit(&stream).map_err(|e| e.to_string())?;
            send(&mut stream, octets).map_err(|e| format!("there: {e}"))?;
            receive(&mut stream, octets).map_err(|e| format!("back: {e}"))
        });
    let there = there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // Who waits for something gives up; who sees something wrong says what.
    match (here, there) {
        (Ok(()), there) => there,
        (here, Ok(())) => here,
        (Err(here), Err(there)) => Err(format!("{here}; {there}")),
    }
}

fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                limit(&stream)?;
                return Ok(stream);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) => return Err(e),
        }
    }
}

fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn send(stream: &mut TcpStream, octets: usize) -> Result<(), String> {
    let begin = Instant::now();
    let mut sent = 0;
    while sent < octets {
        if begin.elapsed() > LIMIT {
            return Err(format!("no more than {sent} octets were sent within {LIMIT:?}"));
        }
        let chunk = expected(sent);
        let chunk = &chunk[..chunk.len().min(octets - sent)];
        stream.write_all(chunk).map_err(|e| format!("after {sent} octets were sent: {e}"))?;
        sent += chunk.len();
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, octets: usize) -> Result<(), String> {
    let mut buffer = vec![0; 65_536];
    let begin = Instant::now();
    let mut received = 0;
    while received < octets {
        if begin.elapsed() > LIMIT {
            return Err(format!("no more than {received} octets were received within {LIMIT:?}"));
        }
        let wanted = expected(received);
        let room = wanted.len().min(buffer.len()).min(octets - received);
        match stream.read(&mut buffer[..room]) {
            Ok(0) => return Err(format!("ended after {received} octets")),
            Ok(read) if buffer[..read] == wanted[..read] => received += read,
            Ok(_) => return Err(format!("a wrong octet after {received}")),
            Err(e) => return Err(format!("after {received} octets were received: {e}")),
        }
    }
    Ok(())
}

/// Sends `count` datagrams of `octets` each from the namespace at `from` to `target`, an address in the one at
/// `to`. How many arrived whole.
///
/// # Errors
/// When the sockets cannot be had, or a datagram arrives that was not sent.
pub fn datagrams(
    from: &Path,
    to: &Path,
    target: IpAddr,
    octets: usize,
    count: usize,
) -> Result<usize, String> {
    let bound = weft_lab::in_netns(to, move || UdpSocket::bind(SocketAddr::new(target, 0)));
    let receiver = bound.map_err(|e| format!("cannot receive at {target}: {e}"))?;
    let address = receiver.local_addr().map_err(|e| format!("no address: {e}"))?;
    let bound = weft_lab::in_netns(from, move || {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        Ok(socket)
    });
    let sender = bound.map_err(|e| format!("cannot send to {target}: {e}"))?;
    receiver.set_read_timeout(Some(Duration::from_millis(300))).map_err(|e| e.to_string())?;
    let payload = |number: usize| -> Vec<u8> {
        PATTERN.iter().cycle().skip(number).take(octets).copied().collect()
    };
    let mut arrived = 0;
    for number in 0..count {
        // Refused, for one because the path's MTU has just been learnt, is not arrived.
        if sender.send(&payload(number)).is_err() {
            continue;
        }
        let mut buffer = vec![0; octets + 1];
        match receiver.recv(&mut buffer) {
            Ok(length) if buffer[..length] == payload(number) => arrived += 1,
            Ok(length) => return Err(format!("{length} octets that were not sent")),
            Err(_) => {}
        }
    }
    Ok(arrived)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "/proc/self/ns/net";

    #[test]
    fn on_the_loopback_all_octets_arrive() {
        let here = Path::new(HERE);
        exchange(here, here, IpAddr::from([127, 0, 0, 1]), 1_000_000).unwrap();
        assert_eq!(datagrams(here, here, IpAddr::from([127, 0, 0, 1]), 4_000, 10), Ok(10));
    }

    #[test]
    fn an_octet_too_few_or_too_many_is_noticed() {
        for (from, told) in [(0, Ok(())), (1, Err("a wrong octet after 0".to_owned()))] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.write_all(&expected(0)[from..1_000 + from]).unwrap();
            let mut server = accept(&listener).unwrap();
            assert_eq!(receive(&mut server, 1_000), told);
            drop(client);
            assert!(from == 1 || receive(&mut server, 1).unwrap_err().starts_with("ended after 0"));
        }
    }
}
