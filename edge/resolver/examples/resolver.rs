//! The resolver alone: `resolver STATE CONTROL RESOLV_CONF VERSION`.

use std::process::ExitCode;

use weft_resolver::{Config, Error, serve};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [state, control, resolv_conf, version] = arguments.as_slice() else {
        eprintln!("usage: resolver STATE CONTROL RESOLV_CONF VERSION");
        return ExitCode::from(2);
    };
    let config = Config {
        resolv_conf: resolv_conf.into(),
        ..Config::new(state.into(), control.into(), version)
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Running) => ExitCode::from(3),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
