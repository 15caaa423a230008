//! Keys and values of positions already seen, so that a new token costs one row.

use burn::tensor::Tensor;

/// Keys and values of one layer, `[batch, heads, positions, head_size]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct LayerCache {
    seen: Option<(Tensor<4>, Tensor<4>)>,
}

impl LayerCache {
    /// Appends new positions and returns everything seen.
    pub(crate) fn extend(&mut self, key: Tensor<4>, value: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let all = match self.seen.take() {
            Some((old_key, old_value)) => {
                (Tensor::cat(vec![old_key, key], 2), Tensor::cat(vec![old_value, value], 2))
            }
            None => (key, value),
        };
        self.seen = Some(all.clone());
        all
    }
}

/// The cache of a whole decoder.
#[derive(Debug, Clone)]
pub(crate) struct KeyValueCache {
    layers: Vec<LayerCache>,
}

impl KeyValueCache {
    /// An empty cache for a decoder of that many layers.
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); layers] }
    }

    /// Positions seen so far.
    pub(crate) fn length(&self) -> usize {
        self.layers[0].seen.as_ref().map_or(0, |(key, _)| key.dims()[2])
    }

    pub(crate) fn layer_mut(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }
}
