//! Integrals of smooth functions over short intervals. Must never be used across a kink.

/// A Gauss-Legendre rule on [-1, 1].
pub(super) type Rule = [(f64, f64)];

/// Three points: exact for polynomials of degree 5.
pub(super) const THREE: [(f64, f64); 3] = [
    (-0.774_596_669_241_483_4, 0.555_555_555_555_555_6),
    (0.0, 0.888_888_888_888_888_8),
    (0.774_596_669_241_483_4, 0.555_555_555_555_555_6),
];
/// Six points: exact for polynomials of degree 11.
pub(super) const SIX: [(f64, f64); 6] = [
    (-0.932_469_514_203_152, 0.171_324_492_379_170_36),
    (-0.661_209_386_466_264_5, 0.360_761_573_048_138_6),
    (-0.238_619_186_083_196_9, 0.467_913_934_572_691_04),
    (0.238_619_186_083_196_9, 0.467_913_934_572_691_04),
    (0.661_209_386_466_264_5, 0.360_761_573_048_138_6),
    (0.932_469_514_203_152, 0.171_324_492_379_170_36),
];

/// The rule's points in `[from, to]` with their weights.
pub(super) fn points(rule: &Rule, from: f64, to: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
    let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
    rule.iter().map(move |(node, weight)| (middle + half * node, half * weight))
}

/// The integral of `function` from `from` to `to`, by four equal panels.
pub(super) fn integrate(from: f64, to: f64, function: impl Fn(f64) -> f64) -> f64 {
    let panel = (to - from) / 4.0;
    (0..4)
        .map(|index| from + f64::from(index) * panel)
        .flat_map(|start| points(&SIX, start, start + panel))
        .map(|(x, weight)| weight * function(x))
        .sum()
}
