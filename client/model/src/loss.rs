//! The weighted next-token loss; measures, never updates.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::dataset::Batch;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::fused::{head_loss, is_host};
use crate::lora::AdapterTensors;

/// A batch on a device: `[batch, length]` inputs, and flat `[batch * length]` targets and weights.
pub(crate) struct DeviceBatch {
    pub(crate) inputs: Tensor<2, Int>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
}

impl DeviceBatch {
    pub(crate) fn new(batch: &Batch, device: &Device) -> Self {
        let [rows, length] = batch.shape();
        let ints = |values: &[u32]| values.iter().map(|&value| value as i32).collect::<Vec<i32>>();
        Self {
            inputs: Tensor::from_data(TensorData::new(ints(batch.inputs()), [rows, length]), device),
            targets: Tensor::from_data(TensorData::new(ints(batch.targets()), [rows * length]), device),
            weights: Tensor::from_data(TensorData::new(batch.weights().to_vec(), [rows * length]), device),
        }
    }
}

/// Negative log-likelihood of every target in nats, `[batch * length]`.
pub(crate) fn token_nats(
    decoder: &Decoder,
    adapter: Option<&AdapterTensors>,
    batch: &DeviceBatch,
) -> Tensor<1> {
    let hidden = decoder.hidden(batch.inputs.clone(), adapter, None);
    // The target's logit is a row-wise product with its embedding: no gather from, and no scatter into, the
    // wide matrix of logits.
    let target_rows = decoder.embedding.clone().select(0, batch.targets.clone());
    let target_logits = (hidden.clone() * target_rows).sum_dim(1);
    let logits = decoder.logits(hidden);
    let shift = logits.clone().detach().max_dim(1);
    let normaliser = (logits - shift.clone()).exp().sum_dim(1).log() + shift;
    (normaliser - target_logits).squeeze_dim(1)
}

/// Weighted mean of [`token_nats`], `[1]`; zero weights everywhere give zero.
pub(crate) fn mean_nats(
    decoder: &Decoder,
    adapter: Option<&AdapterTensors>,
    batch: &DeviceBatch,
) -> Tensor<1> {
    let nats = token_nats(decoder, adapter, batch);
    let total = batch.weights.clone().sum().clamp_min(1e-9);
    (nats * batch.weights.clone()).sum() / total
}

/// The weighted mean in nats per token, and a scalar whose backward pass gives its gradients.
///
/// # Errors
/// When a result cannot be read from the device.
pub(crate) fn differentiable_loss(
    decoder: &Decoder,
    adapter: Option<&AdapterTensors>,
    batch: &Batch,
) -> Result<(f64, Tensor<1>), ModelError> {
    let device = decoder.device();
    let on_device = DeviceBatch::new(batch, &device);
    if is_host(&device) {
        let hidden = decoder.hidden(on_device.inputs, adapter, None);
        return head_loss(hidden, &decoder.embedding, batch.targets(), batch.weights());
    }
    let loss = mean_nats(decoder, adapter, &on_device);
    let value: f32 = loss.clone().try_into_scalar().map_err(|error| ModelError::Tensor(error.to_string()))?;
    Ok((f64::from(value), loss))
}
