//! What the coordinator stores, and the settings that an operator writes. Must never let a damaged state reach a round.

use super::{Decoder, stored};
use tacit_coordinator::{History, OptimizerState, PlanSettings};
use tacit_proto::adapter::AdapterLayout;

pub(super) const DECODERS: &[Decoder] = &[
    Decoder { name: "adapter_layout", longest: 4 << 10, check: adapter_layout },
    Decoder { name: "history", longest: 4 << 10, check: history },
    Decoder { name: "optimizer_state", longest: 4 << 10, check: optimizer_state },
    Decoder { name: "plan_settings", longest: 4 << 10, check: plan_settings },
];

fn adapter_layout(bytes: &[u8]) -> bool {
    let Some(layout) = stored::json::<AdapterLayout>(bytes) else { return false };
    let dimension = layout.dimension();
    if layout.check(&layout.base_model, &layout.adapter).is_ok() && dimension <= 1 << 10 {
        let initial = layout.initial().expect("a checked layout has coordinates");
        assert_eq!((initial.values().len() as u64, initial.parent()), (dimension, &layout.base_model));
    }
    true
}

fn history(bytes: &[u8]) -> bool {
    let Some(mut history) = stored::either::<History>(bytes) else { return false };
    let client = tacit_aggregation::identity::ClientId(1);
    let before = history.rounds_of(client);
    for round in [0, 1, u64::MAX] {
        let _ = history.is_rested(client, round, 2);
    }
    history.record(3, &[client]);
    assert!(history.rounds_of(client) >= before);
    true
}

fn optimizer_state(bytes: &[u8]) -> bool {
    let Some(state) = stored::json::<OptimizerState>(bytes) else { return false };
    let dimension = state.dimension();
    // A state that was accepted takes a step of its own dimension, or says why not.
    if dimension <= 1 << 10
        && let Ok((adapter, next)) = state.step(&vec![0.5; dimension], &vec![1e-3; dimension])
    {
        assert_eq!((adapter.len(), next.dimension()), (dimension, dimension));
        assert!(adapter.iter().all(|weight| weight.is_finite()));
    }
    true
}

fn plan_settings(bytes: &[u8]) -> bool {
    stored::json::<PlanSettings>(bytes).is_some()
}
