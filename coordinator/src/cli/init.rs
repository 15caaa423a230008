//! `tacit-coordinator init`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tacit_coordinator::serve::DataFolder;
use tacit_coordinator::settings::{Pace, ServerSettings};

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The data folder; it must not hold a coordinator yet
    data: PathBuf,
    /// Where clients and administrators will connect
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// A host name for the certificate that is made on first start, beside the loopback's; may be given several times
    #[arg(long = "host")]
    hosts: Vec<String>,
    /// Where Prometheus reads metrics, over plain HTTP
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// Seconds until a client that has nothing to wait for checks in again
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Init {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let pace = Pace { idle: self.idle.saturating_mul(1000), ..Pace::default() };
        let settings = ServerSettings {
            listen: self.listen,
            hosts: self.hosts,
            metrics: self.metrics,
            pace,
            ..ServerSettings::default()
        };
        let data = DataFolder::new(self.data);
        let key = hex::encode(data.init(&settings, &mut super::secrets()?)?.0);
        let folder = data.path().display().to_string();
        let text = format!(
            "The coordinator's public key: {key}\n\nNext, where the identity root is:\n    tacit-coordinator identity appoint \
             {key} --folder ROOT --out appointment.json\nThen copy appointment.json into {folder}, and:\n    tacit-coordinator serve {folder}"
        );
        super::answer(self.json, &json!({ "coordinator": key, "data": folder }), &text)
    }
}
