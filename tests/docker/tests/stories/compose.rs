//! `docker-compose`: a project on each host, on one network.

use std::path::PathBuf;

use weft_docker_tests::{Engines, wait_until, within};
use weft_tests::Ran;

/// The network as both files have it; which one is meant, the subnet says.
const NETWORK: &str = "
networks:
  web:
    driver: weft
    ipam:
      driver: weft
      config:
        - subnet: 10.3.0.0/24
";

const SHOP: &str = "
version: '2.4'
services:
  api:
    image: box
    networks: [web]
  store:
    image: box
    networks:
      web:
        aliases: [rows]
";

const DESK: &str = "
version: '2.4'
services:
  front:
    image: box
    networks: [web]
";

/// A host's project: its directory is called like it.
struct Project<'a> {
    story: &'a Engines,
    host: &'static str,
    file: PathBuf,
}

impl<'a> Project<'a> {
    #[track_caller]
    fn new(story: &'a Engines, host: &'static str, name: &str, services: &str) -> Self {
        let directory = story.cluster().host(host).directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("docker-compose.yml");
        std::fs::write(&file, format!("{services}{NETWORK}")).unwrap();
        Self { story, host, file }
    }

    /// Runs `docker-compose WORDS` on the host.
    #[track_caller]
    fn compose(&self, words: &[&str]) -> Ran {
        let host = self.story.cluster().host(self.host);
        let socket = format!("DOCKER_HOST=unix://{}", weft_lab::docker::socket(host).display());
        let file = self.file.to_string_lossy();
        let begin = ["env", &socket, "timeout", "60", "docker-compose", "--file", &file];
        self.story.cluster().on(self.host, &[&begin[..], words].concat())
    }

    /// The name of the container of a service.
    #[track_caller]
    fn container(&self, service: &str, number: usize) -> String {
        let label = format!("label=com.docker.compose.service={service}");
        let number = format!("label=com.docker.compose.container-number={number}");
        let words = ["ps", "--format", "{{.Names}}", "--filter", &label, "--filter", &number];
        self.story.docker(self.host, &words).ok()
    }
}

/// How many addresses a name has, for a container.
#[track_caller]
fn count(story: &Engines, host: &str, container: &str, name: &str) -> usize {
    story.nslookup(host, container, name).len()
}

#[test]
fn services_of_two_projects_find_each_other_and_leave_nothing() {
    let story = Engines::up("compose", 2);
    let (shop, desk) =
        (Project::new(&story, "a", "shop", SHOP), Project::new(&story, "b", "desk", DESK));
    shop.compose(&["up", "--detach"]).ok();
    desk.compose(&["up", "--detach"]).ok();
    let all = story.cluster().json("a", &["network", "ls"]);
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    let (api, front) = (shop.container("api", 1), desk.container("front", 1));
    story.endpoint(&front);
    let soon = std::time::Duration::from_secs(10);
    for (host, from, name) in [
        ("b", &front, "api"),
        ("b", &front, "store"),
        ("b", &front, "rows"),
        ("b", &front, api.as_str()),
        ("a", &api, "front"),
        ("a", &api, "store"),
    ] {
        wait_until(soon, &format!("{name} answers on {host}"), || {
            count(&story, host, from, name) == 1
        });
        assert!(story.pings(host, from, name), "{name} from {host}");
    }
    for services in [3, 1] {
        let scale = format!("api={services}");
        shop.compose(&["up", "--detach", "--scale", &scale]).ok();
        for (host, from) in [("b", &front), ("a", &api)] {
            wait_until(soon, &format!("{services} addresses of api on {host}"), || {
                count(&story, host, from, "api") == services
            });
        }
    }
    desk.compose(&["restart", "--timeout", "2"]).ok();
    assert!(within(soon, || story.pings("a", &api, "front")).is_some(), "front is not back");
    for project in [&shop, &desk] {
        project.compose(&["down", "--timeout", "2"]).ok();
        let left = story.docker(project.host, &["network", "ls", "--format", "{{.Driver}}"]).ok();
        assert!(!left.contains("weft"), "{left}");
    }
    wait_until(soon, "there is no endpoint", || {
        story.cluster().json("a", &["endpoint", "ls"]).as_array().is_some_and(Vec::is_empty)
    });
}
