//! Who this host is in its cluster: key, certificate and the CA's certificate, on disk.
//!
//! ```text
//! <state>/identity/key.pem          the private key, 0600; made before the join, so that a join
//!                                   whose answer was lost can be asked again by the same key
//! <state>/identity/certificate.pem  renewed before it ends
//! <state>/identity/ca.pem
//! <state>/identity/node.json        where the servers are, and this node's addresses
//! ```

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use weft_model::{ClusterId, Name, NodeId, Role};
use weft_rpc::ca::NodeKey;

/// The files of one host's identity.
pub(crate) struct IdentityFiles {
    directory: PathBuf,
}

/// What is in them.
pub(crate) struct StoredIdentity {
    pub(crate) key: NodeKey,
    pub(crate) certificate: String,
    pub(crate) ca_certificate: String,
    pub(crate) node: StoredNode,
}

/// `node.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredNode {
    pub(crate) cluster: ClusterId,
    pub(crate) id: NodeId,
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) data_address: IpAddr,
    /// Where servers are asked.
    pub(crate) servers: Vec<SocketAddr>,
}

impl IdentityFiles {
    /// In `<state_dir>/identity`, which only root may enter.
    pub(crate) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let directory = state_dir.join("identity");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// The identity, if this host is in a cluster.
    pub(crate) fn load(&self) -> anyhow::Result<Option<StoredIdentity>> {
        let Some(node) = self.read("node.json")? else { return Ok(None) };
        let node: StoredNode =
            serde_json::from_str(&node).context("identity/node.json cannot be read")?;
        let part = |name: &str| -> anyhow::Result<String> {
            self.read(name)?.with_context(|| {
                format!("identity/{name} is missing: remove the state directory and join again")
            })
        };
        Ok(Some(StoredIdentity {
            key: NodeKey::from_pem(&part("key.pem")?)?,
            certificate: part("certificate.pem")?,
            ca_certificate: part("ca.pem")?,
            node,
        }))
    }

    /// The key to join with: the one of an earlier try, or a fresh one that is on disk now.
    pub(crate) fn key(&self) -> anyhow::Result<NodeKey> {
        if let Some(pem) = self.read("key.pem")? {
            return Ok(NodeKey::from_pem(&pem)?);
        }
        let key = NodeKey::generate()?;
        self.write("key.pem", &key.to_pem())?;
        Ok(key)
    }

    /// Keeps a new identity. `node.json` comes last: without it the host is in no cluster.
    pub(crate) fn keep(
        &self,
        certificate: &str,
        ca_certificate: &str,
        node: &StoredNode,
    ) -> anyhow::Result<()> {
        self.write("certificate.pem", certificate)?;
        self.write("ca.pem", ca_certificate)?;
        self.keep_node(node)
    }

    /// Keeps a renewed certificate.
    pub(crate) fn keep_certificate(&self, certificate: &str) -> anyhow::Result<()> {
        self.write("certificate.pem", certificate)
    }

    /// Keeps changed addresses.
    pub(crate) fn keep_node(&self, node: &StoredNode) -> anyhow::Result<()> {
        self.write("node.json", &serde_json::to_string_pretty(node)?)
    }

    fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.directory.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Whole or not at all, also when the machine dies: written beside, synced, renamed.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let (path, beside) =
            (self.directory.join(name), self.directory.join(format!("{name}.new")));
        let written = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            std::fs::File::open(&self.directory)?.sync_all()
        };
        written().with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_a_join_that_failed_and_an_identity_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::open(dir.path()).unwrap();
        let key = files.key().unwrap().digest();
        assert_eq!(files.key().unwrap().digest(), key);
        assert!(files.load().unwrap().is_none());
        let node = StoredNode {
            cluster: ClusterId(1),
            id: NodeId(2),
            name: "a".parse().unwrap(),
            role: Role::Agent,
            data_address: "172.10.0.15".parse().unwrap(),
            servers: vec!["172.10.0.15:7373".parse().unwrap()],
        };
        files.keep("certificate", "ca", &node).unwrap();
        let stored = files.load().unwrap().unwrap();
        assert_eq!((stored.node, stored.key.digest()), (node, key));
        std::fs::remove_file(dir.path().join("identity/ca.pem")).unwrap();
        let error = files.load().err().unwrap().to_string();
        assert!(error.contains("identity/ca.pem is missing"), "{error}");
    }
}
