//! What happens at an engine, as it happens.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::models::{EventMessage, EventMessageTypeEnum as Kind};
use bollard::query_parameters::{EventsOptions, EventsOptionsBuilder};
use futures_util::stream::{self, Stream, StreamExt as _};

use super::{Engine, Error};

/// Something that happened at the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A network is there.
    NetworkCreated {
        /// The network.
        id: String,
        /// Its name.
        name: String,
        /// Its driver.
        driver: String,
    },
    /// A network is gone.
    NetworkDestroyed {
        /// The network.
        id: String,
        /// Its name.
        name: String,
    },
    /// A container joined a network, at its start or while it runs.
    Connected {
        /// The network.
        network: String,
        /// The container.
        container: String,
    },
    /// A container left a network, at its end or while it runs.
    Disconnected {
        /// The network.
        network: String,
        /// The container.
        container: String,
    },
    /// A container's process runs; it joined its networks before.
    Started {
        /// The container.
        container: String,
    },
    /// A container's process ended; it leaves its networks after.
    Died {
        /// The container.
        container: String,
    },
    /// A container has another name.
    Renamed {
        /// The container.
        container: String,
    },
}

impl Engine {
    /// What happens from `since` on, as long as the engine lives. The stream always ends with an
    /// error that says why, and can then be asked for again.
    ///
    /// An engine answers a little before it listens to itself, and keeps its last 256 events: who
    /// wants to miss none takes the time first, asks for all that happened since then, and looks
    /// at the networks while this stream is there. After a break all of it is done again.
    ///
    /// # Errors
    /// As [`Error`], once, at the end.
    pub fn events(
        &self,
        since: Option<SystemTime>,
    ) -> impl Stream<Item = Result<Event, Error>> + Send + Unpin + 'static + use<> {
        let open = self.connect().map(|docker| docker.events(Some(options(since))));
        let told: Told = match open {
            Ok(told) => Box::pin(told),
            Err(error) => return stream::once(std::future::ready(Err(error))).left_stream(),
        };
        let engine = self.clone();
        Box::pin(stream::unfold(Some((engine, told)), next).fuse()).right_stream()
    }
}

type Told = Pin<Box<dyn Stream<Item = Result<EventMessage, bollard::errors::Error>> + Send>>;
type State = Option<(Engine, Told)>;

async fn next(state: State) -> Option<(Result<Event, Error>, State)> {
    let (engine, mut told) = state?;
    loop {
        let error = match told.next().await {
            Some(Ok(message)) => match event(message) {
                Some(event) => return Some((Ok(event), Some((engine, told)))),
                None => continue,
            },
            Some(Err(error)) => engine.stream_error(error),
            None => Error::Cut { path: engine.path, reason: "it was closed".to_owned() },
        };
        return Some((Err(error), None));
    }
}

fn options(since: Option<SystemTime>) -> EventsOptions {
    let filters = HashMap::from([
        ("type", vec!["network", "container"]),
        (
            "event",
            vec!["create", "destroy", "remove", "connect", "disconnect", "start", "die", "rename"],
        ),
    ]);
    let options = EventsOptionsBuilder::default().filters(&filters);
    let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    match since {
        Some(since) => {
            options.since(&format!("{}.{:09}", since.as_secs(), since.subsec_nanos())).build()
        }
        None => options.build(),
    }
}

/// Engines filter by action whatever the type is, so that creations of containers come along.
fn event(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    let mut attributes = actor.attributes.unwrap_or_default();
    let container = attributes.remove("container").filter(|id| !id.is_empty());
    let mut attribute = |name| attributes.remove(name).unwrap_or_default();
    let event = match (message.typ?, message.action.as_deref()?) {
        (Kind::NETWORK, "create") => {
            Event::NetworkCreated { id, name: attribute("name"), driver: attribute("type") }
        }
        // A network of Swarm's is `remove`d.
        (Kind::NETWORK, "destroy" | "remove") => {
            Event::NetworkDestroyed { id, name: attribute("name") }
        }
        (Kind::NETWORK, "connect") => Event::Connected { network: id, container: container? },
        (Kind::NETWORK, "disconnect") => Event::Disconnected { network: id, container: container? },
        (Kind::CONTAINER, "start") => Event::Started { container: id },
        (Kind::CONTAINER, "die") => Event::Died { container: id },
        (Kind::CONTAINER, "rename") => Event::Renamed { container: id },
        _ => return None,
    };
    Some(event)
}
