//! Three engines, many containers.

use std::time::Duration;

use weft_docker_tests::{Engines, IMAGE, wait_until};

const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Containers of a host.
const EACH: usize = 4;

/// Does something for every container of every host, all at once.
fn at_once(work: impl Fn(&str, String) + Sync) {
    std::thread::scope(|scope| {
        for host in HOSTS {
            for number in 1..=EACH {
                let work = &work;
                scope.spawn(move || work(host, format!("{host}{number}")));
            }
        }
    });
}

#[test]
fn all_reach_all_by_name_and_nothing_is_left_when_they_are_gone() {
    let story = Engines::up("many", 3);
    for host in HOSTS {
        story.network(host, "web", &["--subnet", "10.3.0.0/24"]).ok();
    }
    at_once(|host, name| drop(story.run(host, &name, &["--network", "web"])));
    let soon = Duration::from_secs(10);
    let count = || story.cluster().json("a", &["endpoint", "ls"]).as_array().map_or(0, Vec::len);
    assert_eq!(count(), HOSTS.len() * EACH);
    let everybody: Vec<String> = HOSTS
        .iter()
        .flat_map(|host| (1..=EACH).map(move |number| format!("{host}{number}")))
        .collect();
    let words = format!(
        "for other in {}; do ping -q -c1 -W2 $other >/dev/null || echo $other; done",
        everybody.join(" ")
    );
    at_once(|host, name| {
        let unreached = story.exec(host, &name, &["sh", "-c", &words]).ok();
        assert!(unreached.is_empty(), "{name} does not reach {unreached}");
    });
    at_once(|host, name| drop(story.docker(host, &["rm", "--force", &name]).ok()));
    wait_until(soon, "there is no endpoint", || count() == 0);
    // Ten each, started and gone by themselves.
    std::thread::scope(|scope| {
        for host in HOSTS {
            let story = &story;
            scope.spawn(move || {
                for _ in 0..10 {
                    story.docker(host, &["run", "--rm", "--network", "web", IMAGE, "true"]).ok();
                }
            });
        }
    });
    wait_until(soon, "there is no endpoint again", || count() == 0);
    for host in HOSTS {
        wait_until(soon, &format!("{host} has no links of containers"), || {
            let links = story.cluster().on(host, &["ip", "-o", "link"]).ok();
            !links.contains(": we-") && !links.contains(": wd-")
        });
        story.docker(host, &["network", "rm", "web"]).ok();
    }
}
