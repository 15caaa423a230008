//! A connection to a running coordinator for operators. Must never send a token before it knows the server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::Value;
use tacit_coordinator::serve::DataFolder;
use tacit_coordinator::settings::ServerSettings;
use tacit_coordinator::tls::ServerCertificate;
use tacit_proto::admin::Order;
use tacit_proto::connection::{Fingerprint, Server, Trust};
use tacit_proto::services::admin::admin_client::AdminClient;
use tonic::Request;
use zeroize::Zeroizing;

/// Longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 65 << 20;

/// Which coordinator, and with what right.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The coordinator's address, as HOST:PORT; left out, this machine at the port that --data says, or 8443
    #[arg(long, env = "TACIT_COORDINATOR")]
    coordinator: Option<String>,
    /// SHA-256 of its certificate, as `serve` prints it; left out, that of the certificate in --data
    #[arg(long, env = "TACIT_FINGERPRINT")]
    fingerprint: Option<Fingerprint>,
    /// File with an operator's or viewer's token; left out, the first operator's in --data
    #[arg(long, env = "TACIT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The coordinator's data folder, when it is on this machine
    #[arg(long, env = "TACIT_DATA")]
    data: Option<PathBuf>,
    /// One JSON value instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

impl Remote {
    /// Has an order carried out.
    pub(crate) fn carry(&self, order: Order) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("no threads can be started")?.block_on(self.ask(order))
    }

    async fn ask(&self, order: Order) -> anyhow::Result<Value> {
        let file = match (&self.token_file, &self.data) {
            (Some(file), _) => file.clone(),
            (None, Some(data)) => data.join("admin.token"),
            (None, None) => {
                bail!("say who is asking: give --token-file, or --data on the coordinator's machine")
            }
        };
        let token = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let token = Zeroizing::new(format!("Bearer {}", token.trim()));
        let channel = Server::new(&self.address()?, self.trust()?)?.connect(None).await?;
        let mut client = AdminClient::new(channel).max_decoding_message_size(LONGEST_ANSWER);
        let mut request = Request::new(order);
        let mut value: tonic::metadata::MetadataValue<_> =
            token.parse().context("the token holds characters that no token has")?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
        let answer = client.carry(request).await.map_err(|status| anyhow!("{}", status.message()))?;
        Ok(serde_json::from_str(&answer.into_inner().json)?)
    }

    fn address(&self) -> anyhow::Result<String> {
        if let Some(address) = &self.coordinator {
            return Ok(address.clone());
        }
        let data = self.data.as_ref().map(DataFolder::new);
        let listen = data.map_or_else(|| Ok(ServerSettings::default()), |data| data.settings())?.listen;
        // Where it listens on every address, it does on the loopback's.
        let any = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            IpAddr::V6(ip) if ip.is_unspecified() => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            _ => None,
        };
        Ok(SocketAddr::new(any.unwrap_or(listen.ip()), listen.port()).to_string())
    }

    fn trust(&self) -> anyhow::Result<Trust> {
        let fingerprint = match (&self.fingerprint, &self.data) {
            (Some(fingerprint), _) => *fingerprint,
            (None, Some(data)) => {
                // As the server has it. None is made here: nobody would serve it.
                let certificate = match DataFolder::new(data).settings()?.tls {
                    Some(files) => ServerCertificate::load(&files.certificate, &files.key),
                    None => ServerCertificate::made_in(data),
                };
                let context = || format!("{} holds no coordinator that has been started", data.display());
                Fingerprint(certificate.with_context(context)?.fingerprint())
            }
            (None, None) => {
                bail!("say which coordinator this is: give --fingerprint, or --data on its machine")
            }
        };
        Ok(Trust::Fingerprint(fingerprint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_given_or_the_data_folders_or_the_usual_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let address = |coordinator: Option<&str>, settings: Option<&str>| {
            if let Some(settings) = settings {
                std::fs::write(folder.path().join("coordinator.toml"), settings).expect("written");
            }
            let data = settings.map(|_| folder.path().to_owned());
            let coordinator = coordinator.map(str::to_owned);
            Remote { coordinator, fingerprint: None, token_file: None, data, json: false }.address().ok()
        };
        assert_eq!(address(None, None).as_deref(), Some("127.0.0.1:8443"));
        assert_eq!(address(None, Some("")).as_deref(), Some("127.0.0.1:8443"));
        assert_eq!(address(None, Some("listen = '0.0.0.0:9000'")).as_deref(), Some("127.0.0.1:9000"));
        assert_eq!(address(None, Some("listen = '[::]:9000'")).as_deref(), Some("[::1]:9000"));
        assert_eq!(address(None, Some("listen = '10.1.2.3:9000'")).as_deref(), Some("10.1.2.3:9000"));
        assert_eq!(address(Some("a.b:1"), Some("listen = '0.0.0.0:9000'")).as_deref(), Some("a.b:1"));
        assert_eq!(address(None, Some("listen = 9")), None, "settings that cannot be read");
    }
}
