//! A web server of one page: `hello_http PORT TEXT PIDFILE`. Writes its process identifier when it listens.

use std::io::{Read, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, text, pidfile] = words.as_slice() else {
        eprintln!("usage: hello_http PORT TEXT PIDFILE");
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    std::fs::write(pidfile, std::process::id().to_string())?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        // Who asks gets the page, whatever the question is.
        let _ = stream.read(&mut [0; 2048]);
        let length = text.len() + 1;
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}\n"
        );
    }
    Ok(())
}
