//! Compiles the protocol with a compiler written in Rust, so that no `protoc` is needed, and
//! lists the paths of all its calls for the access table to be checked against.

use std::fmt::Write as _;

/// Messages that carry secrets: their `Debug` is written by hand, without them.
const SECRETIVE: [&str; 3] =
    ["weft.v1.JoinRequest", "weft.v1.CreateTokenReply", "weft.v1.JoinClusterRequest"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/weft.proto");
    let descriptors = protox::compile(["weft.proto"], ["proto"])?;
    let mut paths = String::from("&[\n");
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                writeln!(paths, "    \"/{package}.{service}/{}\",", method.name())?;
            }
        }
    }
    paths.push(']');
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("paths.rs"), paths)?;
    tonic_prost_build::configure().skip_debug(SECRETIVE).compile_fds(descriptors)?;
    Ok(())
}
