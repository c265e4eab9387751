//! Metrics in the Prometheus text form, on a local address.
//!
//! Values are read when somebody asks, so nothing is counted twice and idle costs nothing.

mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Daemon;

/// Serves `GET /metrics` until the process ends.
pub(crate) async fn serve(daemon: Arc<Daemon>, address: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let router = Router::new().route("/metrics", get(metrics)).with_state(daemon);
    axum::serve(listener, router).await
}

async fn metrics(State(daemon): State<Arc<Daemon>>) -> impl IntoResponse {
    if let Some(agent) = daemon.agent() {
        // If it is too busy to tell, the metrics are what they were.
        agent.count(super::traffic::PATIENCE).await;
    }
    let mut text = String::new();
    match encode(&mut text, &registry(&daemon)) {
        Ok(()) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn registry(daemon: &Daemon) -> Registry {
    let mut registry = Registry::with_prefix("weft");
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        registry.register(name, help, ConstGauge::new(value));
    };
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The daemon's version", version);
    let Some(agent) = daemon.agent() else {
        gauge(&mut registry, "in_cluster", "Whether this host is in a cluster", 0);
        return registry;
    };
    let progress = agent.progress().borrow().clone();
    let (networks, containers, endpoints, local) = {
        let state = agent.state();
        let rows = &state.knowledge.rows;
        let attachments = &state.knowledge.attachments;
        let containers: std::collections::BTreeSet<_> =
            attachments.values().map(crate::agent::attachment::Attachment::container).collect();
        (rows.networks.len(), containers.len(), rows.endpoints.len(), attachments.len())
    };
    let values: [(&str, &str, u64); 11] = [
        ("in_cluster", "Whether this host is in a cluster", 1),
        ("server_connected", "Whether a server is connected", u64::from(agent.uplink.is_current())),
        ("wanted_generation", "Generation of the newest plan", progress.wanted_generation.0),
        ("applied_generation", "Generation that the kernel holds", progress.generation.0),
        ("kernel_objects", "Kernel objects that are wanted", progress.objects as u64),
        ("kernel_faults", "Kernel objects that the kernel refuses", progress.faults.len() as u64),
        ("networks", "Networks this host takes part in", networks as u64),
        ("containers", "Containers of this host", containers as u64),
        ("endpoints", "Endpoints of those networks on all hosts", endpoints as u64),
        ("local_endpoints", "Endpoints of this host", local as u64),
        ("resolver_up", "Whether the resolver answers", u64::from(daemon.resolver_is_up())),
    ];
    for (name, help, value) in values {
        gauge(&mut registry, name, help, value);
    }
    registry.register(
        "repairs",
        "Kernel objects that others changed and that were put right",
        ConstCounter::new(progress.repairs_total),
    );
    traffic::register(&mut registry, &agent);
    registry
}
