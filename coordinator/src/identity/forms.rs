//! What crosses between the identity root's machine and the coordinator, as JSON. Must never hold a secret.
//!
//! Client numbers are written as decimal strings: many JSON tools read numbers above 2^53 wrongly.

use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{
    ClientId, EpochTerms, PublicKey, Rate, RevocationList, Signature, SignedRoster,
};
use tacit_proto::enrolment::appointment;

/// A request to become a client, as the coordinator exports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// The request's number at the coordinator, in hexadecimal.
    #[serde(with = "hex::serde")]
    pub ticket: Digest,
    /// The Ed25519 key that the client signs with.
    #[serde(with = "hex::serde")]
    pub identity_key: [u8; 32],
    /// The Ed25519 key that the client opens connections with.
    #[serde(with = "hex::serde")]
    pub transport_key: [u8; 32],
    /// What the operator wrote down when inviting: who this is.
    pub note: String,
}

impl Admission {
    /// Whether two requests are one: the note does not count.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        (self.ticket, self.identity_key, self.transport_key)
            == (other.ticket, other.identity_key, other.transport_key)
    }
}

/// What the root made for a client; it goes back to the coordinator, and from there to the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The request.
    #[serde(flatten)]
    pub admission: Admission,
    /// The number that was drawn for the client.
    #[serde(with = "decimal")]
    pub client: ClientId,
    /// Last second of both certificates, Unix time.
    pub not_after: u64,
    /// When it was issued, Unix time in seconds.
    pub issued_at: u64,
    /// The wire form of the certificate that others in a cohort check.
    #[serde(with = "hex::serde")]
    pub certificate: Vec<u8>,
    /// The X.509 certificate for connections, DER.
    #[serde(with = "hex::serde")]
    pub transport_certificate: Vec<u8>,
}

/// The root's word that a key is its coordinator's, and what the server has to know of the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appointment {
    /// The root's Ed25519 public key.
    #[serde(with = "hex::serde")]
    pub root: [u8; 32],
    /// The root's X.509 certificate, DER, with which the server checks its clients' certificates.
    #[serde(with = "hex::serde")]
    pub root_certificate: Vec<u8>,
    /// The coordinator's Ed25519 public key.
    #[serde(with = "hex::serde")]
    pub coordinator: [u8; 32],
    /// The root's signature over the coordinator's key.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

/// An appointment that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the appointment of coordinator {coordinator} is not signed by the root {root} that it names: have it made again with `tacit-coordinator identity appoint`"
)]
pub struct AppointmentError {
    root: PublicKey,
    coordinator: PublicKey,
}

impl Appointment {
    /// The root's public key.
    #[must_use]
    pub fn root(&self) -> PublicKey {
        PublicKey(self.root)
    }

    /// The coordinator's public key.
    #[must_use]
    pub fn coordinator(&self) -> PublicKey {
        PublicKey(self.coordinator)
    }

    /// The root's signature over the coordinator's key.
    #[must_use]
    pub fn signature(&self) -> Signature {
        Signature(self.signature)
    }

    /// Checks that the root it names made it.
    ///
    /// # Errors
    /// [`AppointmentError`].
    pub fn verify(&self) -> Result<(), AppointmentError> {
        let (root, coordinator) = (self.root(), self.coordinator());
        if root.verify(&appointment(&coordinator), &self.signature()) {
            Ok(())
        } else {
            Err(AppointmentError { root, coordinator })
        }
    }
}

/// The newest list of revoked clients, for the coordinator and every client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// Number of the list.
    pub number: u64,
    /// The clients, strictly increasing.
    #[serde(with = "decimal_list")]
    pub clients: Vec<ClientId>,
    /// The root's signature, in hexadecimal.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

impl From<RevocationList> for Revocations {
    fn from(list: RevocationList) -> Self {
        Self { number: list.number, clients: list.clients, signature: list.signature.0 }
    }
}

impl From<Revocations> for RevocationList {
    fn from(form: Revocations) -> Self {
        Self { number: form.number, clients: form.clients, signature: Signature(form.signature) }
    }
}

/// A signed roster with everybody on it, from which the coordinator makes the proofs of membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roll {
    /// Number of the epoch.
    pub epoch: u64,
    /// Root of the Merkle tree over the clients.
    #[serde(with = "hex::serde")]
    pub root: Digest,
    /// First second of the epoch, Unix time.
    pub not_before: u64,
    /// Last second of the epoch, Unix time.
    pub not_after: u64,
    /// Length of a period in seconds.
    pub period_seconds: NonZeroU64,
    /// q in parts of 2^-64, less one.
    #[serde(with = "decimal_rate")]
    pub rate: Rate,
    /// What the root drew at random, in hexadecimal.
    #[serde(with = "hex::serde")]
    pub seed: Digest,
    /// The root's signature, in hexadecimal.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
    /// The clients, strictly increasing.
    #[serde(with = "decimal_list")]
    pub clients: Vec<ClientId>,
}

impl Roll {
    /// Joins the clients of a roster with what the root signed of it.
    #[must_use]
    pub fn new(clients: Vec<ClientId>, signed: &SignedRoster) -> Self {
        Self {
            epoch: signed.epoch.number,
            root: signed.root,
            not_before: signed.epoch.not_before,
            not_after: signed.epoch.not_after,
            period_seconds: signed.epoch.period_seconds,
            rate: signed.epoch.rate,
            seed: signed.epoch.seed,
            signature: signed.signature.0,
            clients,
        }
    }

    /// The statement that the root signed.
    #[must_use]
    pub fn signed(&self) -> SignedRoster {
        let epoch = EpochTerms {
            number: self.epoch,
            not_before: self.not_before,
            not_after: self.not_after,
            period_seconds: self.period_seconds,
            rate: self.rate,
            seed: self.seed,
        };
        SignedRoster {
            epoch,
            root: self.root,
            size: self.clients.len() as u64,
            signature: Signature(self.signature),
        }
    }
}

/// A client's number as a decimal string.
pub(crate) mod decimal {
    use super::ClientId;
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes it.
    pub(crate) fn serialize<S: Serializer>(client: &ClientId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(client)
    }

    /// Reads it.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClientId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(ClientId).map_err(|_| de::Error::custom(format!("\"{text}\" is no client's number")))
    }
}

/// A rate as a decimal string.
mod decimal_rate {
    use super::Rate;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&rate.parts())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Rate::from_parts).map_err(|_| de::Error::custom(format!("\"{text}\" is no rate")))
    }
}

mod decimal_list {
    use super::ClientId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Decimal(#[serde(with = "super::decimal")] ClientId);

    pub(super) fn serialize<S: Serializer>(clients: &[ClientId], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(clients.iter().map(|client| Decimal(*client)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ClientId>, D::Error> {
        let list = Vec::<Decimal>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|Decimal(client)| client).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_strings_and_nothing_is_lost() {
        let largest = ClientId(u64::MAX);
        let form = Revocations { number: 2, clients: vec![ClientId(0), largest], signature: [7; 64] };
        let text = serde_json::to_string(&form).expect("JSON");
        assert!(text.contains(r#""clients":["0","18446744073709551615"]"#), "{text}");
        assert_eq!(serde_json::from_str::<Revocations>(&text).expect("read"), form);
        let wrong = text.replace(r#""0""#, r#""-1""#);
        assert!(
            serde_json::from_str::<Revocations>(&wrong).expect_err("no number").to_string().contains("-1")
        );

        let admission = Admission {
            ticket: [1; 32],
            identity_key: [2; 32],
            transport_key: [3; 32],
            note: "Ada's laptop".into(),
        };
        let issued = Issued {
            admission,
            client: largest,
            not_after: 5,
            issued_at: 4,
            certificate: vec![1, 2],
            transport_certificate: vec![3],
        };
        let text = serde_json::to_string(&issued).expect("JSON");
        assert!(text.contains(r#""client":"18446744073709551615""#), "{text}");
        assert_eq!(serde_json::from_str::<Issued>(&text).expect("read"), issued);
    }
}
