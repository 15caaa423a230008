//! Adapter versions: what the coordinator's channel says is downloaded and installed. Must never leave half a version, nor train
//! on one that is not what the coordinator signed.

use super::throttle::Throttle;
use super::{Daemon, Fault};
use crate::adapters::{self, AdapterFolder, InstallError, Wanted};
use tacit_aggregation::Digest;
use tacit_aggregation::params::TaskName;
use tacit_proto::SignedManifest;
use tacit_proto::fleet::Download;
use tacit_proto::manifest::PublishedFile;

impl Daemon {
    /// Follows a manifest: downloads what is missing, and installs. The installed version.
    pub(super) async fn follow(
        &mut self,
        signed: &SignedManifest,
        task: &TaskName,
    ) -> Result<Option<u64>, Fault> {
        match self.try_follow(signed, task).await {
            Ok(Ok(installed)) => Ok(installed),
            // A version that cannot be had keeps nobody from taking part with an update of an earlier one.
            Ok(Err(error)) => {
                self.problem(&format!("task {task}: {error}"));
                Ok(None)
            }
            Err(Fault::Refused(problem)) => {
                self.problem(&format!("task {task}: {problem}"));
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    async fn try_follow(
        &mut self,
        signed: &SignedManifest,
        task: &TaskName,
    ) -> Result<Result<Option<u64>, InstallError>, Fault> {
        macro_rules! or_say {
            ($result:expr) => {
                match $result {
                    Ok(value) => value,
                    Err(error) => return Ok(Err(error)),
                }
            };
        }
        let folder = or_say!(AdapterFolder::open(self.folder.path(), task));
        or_say!(folder.restarted(self.ledger.restart_number()));
        let coordinator = self.member.coordinator;
        match or_say!(folder.consider(signed, &coordinator, &self.base.digest)) {
            Wanted::Nothing | Wanted::Pinned => {}
            wanted => {
                if let Wanted::Files(files) = wanted {
                    for file in &files {
                        or_say!(self.download(&folder, file).await?);
                    }
                }
                let base = adapters::Base { digest: self.base.digest, config: &self.base.config };
                or_say!(folder.install(signed, &coordinator, &base));
                tracing::info!(%task, "a version is installed");
            }
        }
        Ok(folder.record().map(|record| record.current))
    }

    /// Downloads a file, from where an earlier download stopped, as fast as the owner allows.
    async fn download(
        &mut self,
        folder: &AdapterFolder,
        file: &PublishedFile,
    ) -> Result<Result<(), InstallError>, Fault> {
        let mut download = match folder.download(file) {
            Ok(download) => download,
            Err(error) => return Ok(Err(error)),
        };
        let request = Download { digest: file.digest, offset: download.offset() };
        let mut throttle = Throttle::new(self.settings.bandwidth.down);
        if download.offset() < file.size {
            let mut stream = self.line.download(request).await?;
            while let Some(part) = self.line.next(&mut stream).await? {
                throttle.pass(part.bytes.len()).await;
                if let Err(error) = download.push(&part.bytes) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(download.finish())
    }

    /// The digest and the values of a version that is here.
    pub(super) fn version(
        &mut self,
        signed: &SignedManifest,
        task: &TaskName,
    ) -> Result<Option<(Digest, Vec<f32>)>, Fault> {
        let coordinator = self.member.coordinator;
        let base = adapters::Base { digest: self.base.digest, config: &self.base.config };
        let load = || {
            let version = signed.verify(&coordinator)?.version;
            AdapterFolder::open(self.folder.path(), task)?.load(version, &coordinator, &base)
        };
        match load() {
            Ok((manifest, adapter)) => Ok(Some((manifest.adapter, adapter.flat().to_vec()))),
            Err(error) => {
                self.problem(&format!("task {task}: {error}"));
                Ok(None)
            }
        }
    }
}
