//! Softmax, gated activation and next-token loss with their gradients given in closed form.
//!
//! On the CPU the values come from [`crate::kernel`]. The graph sees `value + (s - detached s)`, where `s` is linear
//! in the inputs with the exact derivative of the function: nothing is added to the value, and the backward pass is
//! a product with a constant instead of a walk back through exponentials. On other devices the tensor library's own
//! operations serve.

use burn::tensor::{Device, Tensor, TensorData, activation};

use crate::error::ModelError;
use crate::kernel;

/// True where tensors lie in this process's memory, so that a row kernel costs no transfer.
pub(crate) fn is_host(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

/// Softmax over the last dimension.
pub(crate) fn softmax(scores: Tensor<4>) -> Tensor<4> {
    let device = scores.device();
    if !is_host(&device) {
        return activation::softmax(scores, 3);
    }
    let shape = scores.dims();
    let Some(probabilities) = on_host(scores.clone(), |values| kernel::softmax_rows(values, shape[3])) else {
        return activation::softmax(scores, 3);
    };
    if !scores.is_tracked() {
        return like(probabilities, &device);
    }
    let constant = probabilities.autodiff();
    let weighted = scores.clone() * constant.clone();
    let linear = (scores - weighted.sum_dim(3)) * constant.clone();
    with_gradient_of(constant, linear)
}

/// `silu(gate) * up`.
pub(crate) fn gated(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let device = gate.device();
    if !is_host(&device) {
        return activation::silu(gate) * up;
    }
    let shape = gate.dims();
    let mut slopes = Vec::new();
    let Some(value) = on_host(gate.clone(), |values| slopes = kernel::silu_with_slope(values)) else {
        return activation::silu(gate) * up;
    };
    if !gate.is_tracked() {
        return like(value, &device) * up;
    }
    let slopes = Tensor::<2>::from_data(TensorData::new(slopes, shape), &device);
    with_gradient_of(value.autodiff(), gate * slopes) * up
}

/// Weighted mean nats of the targets, and a scalar with the same gradients as that mean.
///
/// `hidden` is `[rows, hidden]`, `head` `[vocabulary, hidden]`; where the head is frozen no gradient is computed for
/// it. Only for the CPU, where the wide matrix of logits then never enters the graph.
///
/// # Errors
/// When a result cannot be read from the device.
pub(crate) fn head_loss(
    hidden: Tensor<2>,
    head: &Tensor<2>,
    targets: &[u32],
    weights: &[f32],
) -> Result<(f64, Tensor<1>), ModelError> {
    let total = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>().max(1e-9);
    let shares: Vec<f32> = weights.iter().map(|&weight| (f64::from(weight) / total) as f32).collect();
    let (inner_hidden, inner_head) = (hidden.clone().inner(), head.clone().inner());
    let logits = inner_hidden.clone().matmul(inner_head.clone().transpose());
    let shape = logits.dims();
    let mut values = read(logits)?;
    let nats = kernel::cross_entropy_rows(&mut values, shape[1], targets, &shares);
    let slopes = Tensor::<2>::from_data(TensorData::new(values, shape), &inner_head.device());
    let mean = nats.iter().zip(&shares).map(|(&nats, &share)| f64::from(nats) * f64::from(share)).sum();
    let mut surrogate = (hidden * slopes.clone().matmul(inner_head).autodiff()).sum();
    if head.is_tracked() {
        let head_slopes = slopes.transpose().matmul(inner_hidden);
        surrogate = surrogate + (head.clone() * head_slopes.autodiff()).sum();
    }
    Ok((mean, surrogate))
}

/// Nats of each target, outside any graph.
///
/// # Errors
/// When a result cannot be read from the device.
pub(crate) fn nats(logits: Tensor<2>, targets: &[u32]) -> Result<Vec<f32>, ModelError> {
    let width = logits.dims()[1];
    let mut values = read(logits)?;
    Ok(kernel::cross_entropy_rows(&mut values, width, targets, &vec![1.0; targets.len()]))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ModelError> {
    tensor.try_into_vec_as().map_err(|error| ModelError::Tensor(error.to_string()))
}

/// Applies a kernel to the values of a tensor; the result is outside any graph.
fn on_host<const D: usize>(tensor: Tensor<D>, kernel: impl FnOnce(&mut [f32])) -> Option<Tensor<D>> {
    let device = tensor.device().without_autodiff();
    let shape = tensor.dims();
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    let mut values: Vec<f32> = read(tensor).ok()?;
    kernel(&mut values);
    Some(Tensor::from_data(TensorData::new(values, shape), &device))
}

/// A constant where the other tensors of the pass live.
fn like<const D: usize>(value: Tensor<D>, device: &Device) -> Tensor<D> {
    if device.is_autodiff() { value.autodiff() } else { value }
}

fn with_gradient_of<const D: usize>(value: Tensor<D>, linear: Tensor<D>) -> Tensor<D> {
    value + (linear.clone() - linear.detach())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    fn close(a: Tensor<2>, b: Tensor<2>, tolerance: f32) {
        let (a, b) = (read(a).unwrap(), read(b).unwrap());
        let size = b.iter().map(|x| x.abs()).fold(0.0, f32::max);
        assert!(size > 1e-3, "nothing to compare");
        for (x, y) in a.iter().zip(&b) {
            assert!((x - y).abs() <= tolerance * size, "{x} {y}");
        }
    }

    fn random(shape: [usize; 2]) -> Tensor<2> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.5), &Device::flex())
    }

    #[test]
    fn softmax_has_the_value_and_gradient_of_the_library() {
        let (scores, weights) = (random([6, 10]), random([6, 10]).autodiff());
        let run = |f: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            let leaf = scores.clone().autodiff().require_grad();
            let value = f(leaf.clone().reshape([1, 2, 3, 10])).reshape([6, 10]);
            let gradients = (value.clone() * weights.clone()).sum().backward();
            (value.inner(), leaf.grad(&gradients).unwrap())
        };
        let (ours, library) = (run(&softmax), run(&|x| activation::softmax(x, 3)));
        close(ours.0, library.0, 1e-6);
        close(ours.1, library.1, 1e-5);
    }

    #[test]
    fn gated_has_the_value_and_gradients_of_the_library() {
        let (gate, up, weights) = (random([5, 9]), random([5, 9]), random([5, 9]).autodiff());
        let run = |f: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
            let gate = gate.clone().autodiff().require_grad();
            let up = up.clone().autodiff().require_grad();
            let value = f(gate.clone(), up.clone());
            let gradients = (value.clone() * weights.clone()).sum().backward();
            (value.inner(), gate.grad(&gradients).unwrap(), up.grad(&gradients).unwrap())
        };
        let (ours, library) = (run(&gated), run(&|gate, up| activation::silu(gate) * up));
        close(ours.0, library.0, 1e-6);
        close(ours.1, library.1, 1e-5);
        close(ours.2, library.2, 1e-5);
    }

    #[test]
    fn head_loss_has_the_value_and_gradients_of_a_graph_over_the_logits() {
        let (hidden, head) = (random([4, 6]), random([11, 6]));
        let targets = [3, 0, 10, 7];
        let weights = [1.0, 0.0, 2.5, 0.5];
        let leaf = hidden.clone().autodiff().require_grad();
        let head_leaf = head.clone().autodiff().require_grad();
        let (value, scalar) = head_loss(leaf.clone(), &head_leaf, &targets, &weights).unwrap();
        let gradients = scalar.backward();

        let plain = hidden.autodiff().require_grad();
        let plain_head = head.autodiff().require_grad();
        let logits = activation::log_softmax(plain.clone().matmul(plain_head.clone().transpose()), 1);
        let mut expected = None;
        for ((row, &target), &weight) in targets.iter().enumerate().zip(&weights) {
            let one = logits.clone().slice([row..row + 1, target as usize..target as usize + 1]).sum()
                * -(weight / 4.0);
            expected = Some(match expected {
                None => one,
                Some(sum) => sum + one,
            });
        }
        let expected = expected.unwrap();
        let expected_gradients = expected.backward();
        let expected: f32 = expected.try_into_scalar().unwrap();
        assert!((value - f64::from(expected)).abs() < 1e-5, "{value} {expected}");
        close(leaf.grad(&gradients).unwrap(), plain.grad(&expected_gradients).unwrap(), 1e-5);
        close(head_leaf.grad(&gradients).unwrap(), plain_head.grad(&expected_gradients).unwrap(), 1e-5);
    }
}
