//! Names: of the other host, of this one, of Docker's own, and of the outside.
//!
//! ```text
//!          a                                       b
//!  ┌───────────────────────────┐      ┌──────────────────────────┐
//!  │ api (Docker)  job-a       │      │ front (Docker)  job-b    │
//!  └────┬────────────┬─────────┘      └───┬───────────────┬──────┘
//!       └────────────┴───── web 10.3.0.0/24 ──────────────┘
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use weft_docker_tests::{Engines, IMAGE, OUTSIDE, Setup, found, wait_until};
use weft_tests::Attached;

use super::{on_web, web};

/// How long a name that is gone may go on answering.
const SOON: Duration = Duration::from_secs(10);

/// How long an alias may be on its way after `docker run` has returned.
const A_WINK: Duration = Duration::from_millis(500);

/// A network `web`, and servers outside to ask of what nobody here knows.
#[track_caller]
fn with_upstream(story: &str) -> Engines {
    on_web(Engines::with(story, Setup { upstream: true, live_restore: true, ..Setup::default() }))
}

/// One question, asked once; what DNS says of it, and the addresses as they come.
#[track_caller]
fn ask(job: &Attached, name: &str) -> (String, Vec<String>) {
    let said = job.run(&["dig", "+noall", "+answer", "+comments", "+tries=1", "+time=2", name]);
    let status = said.stdout.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    let records = said.stdout.lines().filter(|line| !line.starts_with(';'));
    let addresses = records.filter_map(|line| line.split_whitespace().nth(4));
    (status.unwrap_or("none").to_owned(), addresses.map(str::to_owned).collect())
}

/// Waits until there is no such name, for a container that joined by Weft and for Docker's container
/// `front` of host b.
#[track_caller]
fn no_such_name(story: &Engines, job: &Attached, name: &str) {
    wait_until(SOON, &format!("{name} is no name any more"), || ask(job, name).0 == "NXDOMAIN");
    let said = story.exec("b", "front", &["nslookup", name]).ran;
    let words = format!("{}{}", said.stdout, said.stderr);
    assert!(words.contains("NXDOMAIN"), "{name}: {words}");
}

#[test]
fn names_and_aliases_answer_on_both_hosts_for_docker_and_for_weft() {
    let story = with_upstream("names");
    story.run("a", "api", &["--network", "web", "--network-alias", "shop"]);
    story.run("b", "front", &["--network", "web"]);
    let (api, front) = (story.address("a", "api", "web"), story.address("b", "front", "web"));
    story.endpoint("front");
    let jobs = ["a", "b"]
        .map(|host| story.cluster().attach(host, &format!("job-{host}"), &["--network", "web"]));
    for name in ["api", "shop", "api.web", "shop.web"] {
        assert_eq!(story.nslookup("b", "front", name), std::slice::from_ref(&api), "{name}");
        for job in &jobs {
            assert_eq!(ask(job, name), ("NOERROR".to_owned(), vec![api.clone()]), "{name}");
        }
        assert!(story.pings("b", "front", name), "{name} is not reached");
    }
    assert_eq!(story.nslookup("a", "api", "front"), [front]);
    for job in &jobs {
        for (host, name) in [("a", "api"), ("b", "front")] {
            assert_eq!(story.nslookup(host, name, &job.name), [job.v4().to_string()], "{host}");
            assert!(story.pings(host, name, &job.name), "{name} does not reach {}", job.name);
        }
        job.ping("front");
    }
    // Called otherwise from now on, by its alias as before.
    story.docker("a", &["rename", "api", "store"]).ok();
    no_such_name(&story, &jobs[1], "api");
    assert_eq!(story.nslookup("b", "front", "store"), std::slice::from_ref(&api));
    assert_eq!(ask(&jobs[1], "shop").1, [api]);
    story.docker("a", &["rm", "--force", "store"]).ok();
    for name in ["store", "shop", "api"] {
        no_such_name(&story, &jobs[1], name);
    }
}

#[test]
fn an_alias_of_several_has_all_their_addresses_in_any_order() {
    let story = web("pool");
    let mut all = BTreeSet::new();
    for (host, name) in [("a", "one"), ("a", "two"), ("b", "three"), ("b", "four")] {
        story.run(host, name, &["--network", "web", "--network-alias", "pool"]);
        all.insert(story.address(host, name, "web"));
    }
    let jobs = ["a", "b"]
        .map(|host| story.cluster().attach(host, &format!("job-{host}"), &["--network", "web"]));
    let everybody = |answer: &Vec<String>| answer.iter().cloned().collect::<BTreeSet<_>>() == all;
    for job in &jobs {
        wait_until(SOON, "all of them answer", || everybody(&ask(job, "pool").1));
        let answers: Vec<Vec<String>> = (0..20).map(|_| ask(job, "pool").1).collect();
        assert!(answers.iter().all(everybody), "{answers:?}");
        let orders: BTreeSet<&Vec<String>> = answers.iter().collect();
        assert!(orders.len() > 1, "always {orders:?}");
    }
    for (host, name) in [("a", "one"), ("b", "four")] {
        let words = ["sh", "-c", "for i in $(seq 20); do nslookup pool; echo =; done"];
        let printed = story.exec(host, name, &words).ok();
        let answers: Vec<Vec<String>> = printed.split("\n=").map(found).collect();
        let answers = &answers[..20];
        assert!(answers.iter().all(everybody), "{answers:?}");
        let orders: BTreeSet<&Vec<String>> = answers.iter().collect();
        assert!(orders.len() > 1, "always {orders:?}");
    }
    // One that goes is not answered any more, the others are.
    let gone = story.address("a", "one", "web");
    story.docker("a", &["rm", "--force", "one"]).ok();
    all.remove(&gone);
    for job in &jobs {
        let left = || ask(job, "pool").1.into_iter().collect::<BTreeSet<_>>() == all;
        wait_until(SOON, "the other three answer", left);
    }
}

#[test]
fn a_name_answers_the_moment_docker_run_returns() {
    let story = web("moment");
    story.run("b", "front", &["--network", "web"]);
    let job = story.cluster().attach("b", "job", &["--network", "web"]);
    for round in 0..6 {
        let (name, alias) = (format!("api-{round}"), format!("shop-{round}"));
        story.run("a", &name, &["--network", "web", "--network-alias", &alias]);
        // Asked once, whatever comes of it; the address is looked up afterwards.
        let found = match round % 2 {
            0 => ask(&job, &name).1,
            _ => story.nslookup("b", "front", &name),
        };
        // Docker tells aliases only when the container has started: they are on their way by then.
        let late =
            wait_until(A_WINK, &format!("{alias} answers"), || !ask(&job, &alias).1.is_empty());
        let address = story.address("a", &name, "web");
        assert_eq!(found, std::slice::from_ref(&address), "{name}");
        assert_eq!(ask(&job, &alias).1, [address], "{alias}, after {late:?}");
    }
}

#[test]
fn the_first_thing_a_container_does_may_be_to_ask() {
    let story = web("asks");
    story.run("a", "api", &["--network", "web", "--network-alias", "shop"]);
    let api = story.address("a", "api", "web");
    story.endpoint("api");
    for round in 0..10 {
        let name = if round % 2 == 0 { "api" } else { "shop" };
        let words = ["run", "--rm", "--network", "web", IMAGE, "nslookup", name];
        let said = story.docker("b", &words);
        assert_eq!(found(&said.ran.stdout), std::slice::from_ref(&api), "{round}: {:?}", said.ran);
    }
}

#[test]
fn what_only_docker_knows_still_answers() {
    let story = with_upstream("dockers");
    story.docker("a", &["network", "create", "local"]).ok();
    story.run("a", "db", &["--network", "local", "--network-alias", "rows"]);
    story.run("b", "front", &["--network", "web"]);
    let db = story.address("a", "db", "local");
    story.run("a", "api", &["--network", "web", "--add-host", "legacy:10.9.9.9"]);
    let front = story.address("b", "front", "web");
    let knows = |name: &str| story.nslookup("a", "api", name);
    assert!(knows("db").is_empty());
    story.docker("a", &["network", "connect", "local", "api"]).ok();
    for name in ["db", "rows"] {
        assert_eq!(knows(name), std::slice::from_ref(&db));
        assert!(story.pings("a", "api", name));
    }
    assert_eq!(knows("www.example.com"), [OUTSIDE]);
    assert_eq!(knows("front"), std::slice::from_ref(&front));
    let legacy = story.exec("a", "api", &["ping", "-c1", "-W1", "legacy"]).ran.stdout;
    assert!(legacy.contains("(10.9.9.9)"), "{legacy}");
    // The other way round: first Docker's network, then Weft's; and without Weft's again.
    story.run("a", "late", &["--network", "local"]);
    story.docker("a", &["network", "connect", "web", "late"]).ok();
    let late = |name: &str| story.nslookup("a", "late", name);
    wait_until(SOON, "late finds front", || late("front") == [front.clone()]);
    assert_eq!(late("db"), std::slice::from_ref(&db));
    story.docker("a", &["network", "disconnect", "web", "late"]).ok();
    wait_until(SOON, "late does not find front", || late("front").is_empty());
    assert_eq!(late("db"), [db]);
}

#[test]
fn names_go_on_while_weft_or_docker_is_dead() {
    let story = with_upstream("dead");
    story.run("a", "api", &["--network", "web", "--network-alias", "shop"]);
    story.run("b", "front", &["--network", "web"]);
    let (api, front) = (story.address("a", "api", "web"), story.address("b", "front", "web"));
    story.endpoint("front");
    let all_answer = |when: &str| {
        for name in ["api", "shop"] {
            let found = story.nslookup("b", "front", name);
            assert_eq!(found, std::slice::from_ref(&api), "{name}, {when}");
        }
        assert_eq!(story.nslookup("a", "api", "front"), std::slice::from_ref(&front), "{when}");
        assert_eq!(story.nslookup("b", "front", "www.example.com"), [OUTSIDE], "{when}");
        assert!(story.pings("b", "front", "api"), "{when}");
    };
    all_answer("before");
    for host in ["a", "b"] {
        story.cluster().kill_daemon(host);
    }
    all_answer("while both of Weft's daemons are dead");
    for host in ["a", "b"] {
        story.cluster().start_daemon(host);
    }
    all_answer("when they are back");
    let inside = story.netns("b", "front");
    story.kill("b");
    // Docker cannot be asked to ask: this is its container's namespace, entered without it.
    let asked = |name: &str| {
        let netns = format!("--net={}", inside.display());
        let words =
            ["nsenter", &netns, "dig", "+short", "+tries=1", "+time=4", "@127.0.0.11", name];
        story.cluster().on("b", &words).stdout.trim().to_owned()
    };
    for (name, address) in [("api", api.as_str()), ("shop", &api), ("www.example.com", OUTSIDE)] {
        assert_eq!(asked(name), address, "{name}, while Docker is dead");
    }
    story.start("b");
    all_answer("when Docker is back");
}
