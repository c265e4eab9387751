//! The engine: a client of its API, over its unix socket.
//!
//! It asks without a version: an engine then answers in its own newest, and what is read here is
//! the same in all of them (seen with 20.10, API 1.41). A client that names its own is refused by
//! engines that are older, and also by newer ones when it names an old one.
//!
//! **Never inside a driver call**: an engine holds locks until the call is answered.
//! `GET /containers/{id}/json` waits for the container's lock, which engines such as 20.10 hold
//! for as long as the container is being started, its network driver's calls among it;
//! `GET /networks/{id}` does not, and tells endpoint, container and name as well.

mod events;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::{
    InspectContainerOptions, InspectNetworkOptions, ListNetworksOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper::Uri;
use hyper::http::uri::PathAndQuery;

pub use events::Event;
pub use values::{ContainerInfo, ContainerNetwork, EndpointInfo, NetworkInfo};

/// Where an engine listens unless told otherwise.
pub const SOCKET: &str = "/run/docker.sock";

/// Why an engine did not say what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers there.
    #[error(
        "no Docker engine answers on {path}: is it running? ('systemctl status docker'): {reason}"
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It did not answer in time.
    #[error(
        "the Docker engine on {path} did not answer within {within:?}: see 'journalctl -u docker'"
    )]
    Late {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        within: Duration,
    },
    /// It answered with an error of its own.
    #[error("the Docker engine on {path} refuses: {text} (status {status})")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// It answered something else.
    #[error(
        "the Docker engine on {path} says what weft does not understand: {reason}: is it a Docker engine, 20.10 or later?"
    )]
    Unreadable {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A stream of events ended.
    #[error("the Docker engine on {path} tells no more events: {reason}")]
    Cut {
        /// The socket.
        path: PathBuf,
        /// How it ended.
        reason: String,
    },
}

/// A host's engine. Making one asks nothing: it may start later, and again.
#[derive(Debug, Clone)]
pub struct Engine {
    path: PathBuf,
    deadline: Duration,
}

impl Engine {
    /// The engine that listens at `path`; each question has 10 seconds.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), deadline: Duration::from_secs(10) }
    }

    /// With another deadline for each question.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The networks of `driver`, by identifier. One that goes meanwhile is left out.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn networks_of(&self, driver: &str) -> Result<Vec<NetworkInfo>, Error> {
        let filters = std::collections::HashMap::from([("driver", vec![driver])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let docker = self.connect()?;
        let listed = self.ask(docker.list_networks(Some(options))).await?;
        // The list has no endpoints, and an engine matches more than the whole name.
        let mut ids: Vec<_> = listed
            .into_iter()
            .filter(|network| network.driver.as_deref() == Some(driver))
            .filter_map(|network| network.id)
            .collect();
        ids.sort();
        let mut networks = Vec::with_capacity(ids.len());
        for id in ids {
            networks.extend(self.network(&id).await?);
        }
        Ok(networks)
    }

    /// The network with this identifier or name; `None` if there is none.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn network(&self, id: &str) -> Result<Option<NetworkInfo>, Error> {
        let docker = self.connect()?;
        let told = self.find(id, docker.inspect_network(id, None::<InspectNetworkOptions>)).await?;
        Ok(told.map(values::network))
    }

    /// The container with this identifier or name; `None` if there is none. It may take until the
    /// container is started, or the deadline (see the module).
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn container(&self, id: &str) -> Result<Option<ContainerInfo>, Error> {
        let docker = self.connect()?;
        let question = docker.inspect_container(id, None::<InspectContainerOptions>);
        let told = self.find(id, question).await?;
        Ok(told.map(values::container))
    }

    /// Whatever has the engine's socket open is made anew for each question: an engine that was
    /// restarted has another one.
    fn connect(&self) -> Result<Docker, Error> {
        let path = self.path.to_string_lossy();
        // Its own timeout is in whole seconds and ends with the head of an answer: it is for the
        // stream of events, whose rest has no end.
        let seconds = self.deadline.as_secs().max(1);
        Docker::connect_with_unix(&path, seconds, API_DEFAULT_VERSION)
            .map(|docker| docker.with_request_modifier(without_version))
            .map_err(|error| self.error(error))
    }

    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.deadline, question).await {
            Ok(answer) => answer.map_err(|error| self.error(error)),
            Err(_) => Err(self.late()),
        }
    }

    /// Asks for one thing. That there is none must be said of this very thing: a page that is not
    /// found is no evidence.
    async fn find<T>(
        &self,
        id: &str,
        question: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<Option<T>, Error> {
        // It becomes part of a path.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.starts_with('.') || !id.chars().all(plain) {
            return Ok(None);
        }
        match self.ask(question).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Refused { status: 404, text, .. }) if text.contains(id) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn late(&self) -> Error {
        Error::Late { path: self.path.clone(), within: self.deadline }
    }

    fn error(&self, error: bollard::errors::Error) -> Error {
        use bollard::errors::Error as Bollard;
        let path = self.path.clone();
        match error {
            Bollard::DockerResponseServerError { status_code, message } => {
                Error::Refused { path, status: status_code, text: message.trim().to_owned() }
            }
            Bollard::RequestTimeoutError => self.late(),
            Bollard::SocketNotFoundError(_) => {
                Error::Unreachable { path, reason: "there is no such socket".to_owned() }
            }
            Bollard::HyperLegacyError { err } if err.is_connect() => {
                Error::Unreachable { path, reason: whole(&err) }
            }
            error => Error::Unreadable { path, reason: whole(&error) },
        }
    }

    /// What breaks a stream that was there is not the engine's way of speaking.
    fn stream_error(&self, error: bollard::errors::Error) -> Error {
        match error {
            bollard::errors::Error::IOError { err } => {
                Error::Cut { path: self.path.clone(), reason: whole(&err) }
            }
            error => self.error(error),
        }
    }
}

/// An error and what caused it, on one line.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// Takes the version from the path of a request, `/v1.52/networks`.
fn without_version(mut request: BollardRequest) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let bare = parts.path_and_query.as_ref().and_then(|path| {
        let versioned = path.as_str().strip_prefix("/v")?;
        PathAndQuery::try_from(versioned.get(versioned.find('/')?..)?).ok()
    });
    if let Some(bare) = bare {
        parts.path_and_query = Some(bare);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}
