//! The local socket.

use std::os::unix::fs::PermissionsExt as _;

use weft_rpc::local::{self, LocalError};
use weft_rpc::wire::cluster_client::ClusterClient;

use crate::stub::{access, call_everything, routes};

#[tokio::test]
async fn the_socket_is_roots_and_only_a_dead_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.sock");
    let first = local::open(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let second = local::open(&path).await.unwrap_err();
    assert!(matches!(second, LocalError::InUse(_)), "{second:?}");
    drop(first);
    let _third = local::open(&path).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let file = folder.path().join("notes");
    std::fs::write(&file, "keep").unwrap();
    let refused = local::open(&file).await.unwrap_err();
    assert!(matches!(refused, LocalError::NotASocket(_)), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "keep");
    let nowhere = local::open(&folder.path().join("no/folder/x")).await.unwrap_err();
    assert!(matches!(nowhere, LocalError::Io { .. }), "{nowhere:?}");
}

#[tokio::test]
async fn root_of_this_host_is_no_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.sock");
    let missing = local::connect(&path).await.unwrap_err();
    assert!(missing.to_string().contains("is it running?"), "{missing}");

    let listener = local::open(&path).await.unwrap();
    let server = tokio::spawn(local::serve(listener, access(), routes(), std::future::pending()));
    let channel = local::connect(&path).await.unwrap();
    let mut client = ClusterClient::new(channel);
    for (path, answer) in call_everything(&mut client).await {
        let refused = answer.expect_err(path);
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{path}");
    }
    server.abort();
}
