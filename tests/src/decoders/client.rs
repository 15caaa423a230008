//! What a client stores on its own machine. Must never let a damaged budget say that less was spent.

use super::{Decoder, stored};
use tacit_client::participant::JoinSecrets;
use tacit_client::{Budget, Limits, Participation};

pub(super) const DECODERS: &[Decoder] = &[
    Decoder { name: "budget", longest: 32 << 10, check: budget },
    Decoder { name: "join_secrets", longest: 256, check: join_secrets },
    Decoder { name: "limits", longest: 1 << 10, check: limits },
    Decoder { name: "participation", longest: 1 << 10, check: participation },
];

fn budget(bytes: &[u8]) -> bool {
    let Some(budget) = stored::either::<Budget>(bytes) else { return false };
    let limits = budget.limits();
    assert!(limits.epsilon > 0.0 && limits.delta > 0.0 && limits.delta < 1.0);
    if let Ok(spent) = budget.spent() {
        assert!(spent >= 0.0, "{spent}");
    }
    true
}

fn join_secrets(bytes: &[u8]) -> bool {
    let Ok(stored) = bytes.try_into() else { return false };
    let Some(secrets) = JoinSecrets::from_bytes(stored) else { return false };
    assert_eq!(*secrets.to_bytes(), *stored, "each has one stored form");
    assert_eq!(format!("{secrets:?}"), "JoinSecrets(redacted)");
    true
}

fn limits(bytes: &[u8]) -> bool {
    stored::either::<Limits>(bytes).is_some()
}

fn participation(bytes: &[u8]) -> bool {
    stored::either::<Participation>(bytes).is_some()
}
