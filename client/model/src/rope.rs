//! Rotary position embedding (Su et al. 2021) in the half-split form of the Llama models.

use burn::tensor::{Device, Tensor, TensorData};

/// Cosines and sines for positions `0..length`, each `[1, 1, length, head_size]`.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotary {
    /// Tables for `length` positions; frequency `i` of `head_size / 2` is `theta^(-2i / head_size)`.
    pub(crate) fn new(head_size: usize, length: usize, theta: f64, device: &Device) -> Self {
        let half = head_size / 2;
        let angle = |position: usize, lane: usize| {
            position as f64 * theta.powf(-2.0 * (lane % half) as f64 / head_size as f64)
        };
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..length)
                .flat_map(|p| (0..head_size).map(move |lane| (p, lane)))
                .map(|(p, lane)| f(angle(p, lane)) as f32)
                .collect();
            Tensor::<4>::from_data(TensorData::new(values, [1, 1, length, head_size]), device)
        };
        // The sine carries the sign of the half rotation: (a, b) -> (a cos - b sin, b cos + a sin).
        let signed = (0..length)
            .flat_map(|p| (0..head_size).map(move |lane| (p, lane)))
            .map(
                |(p, lane)| {
                    if lane < half { -angle(p, lane).sin() as f32 } else { angle(p, lane).sin() as f32 }
                },
            )
            .collect::<Vec<f32>>();
        let sin = Tensor::<4>::from_data(TensorData::new(signed, [1, 1, length, head_size]), device);
        Self { cos: table(f64::cos), sin }
    }

    /// The rows for positions `start..start + length`.
    pub(crate) fn window(&self, start: usize, length: usize) -> Self {
        Self {
            cos: self.cos.clone().narrow(2, start, length),
            sin: self.sin.clone().narrow(2, start, length),
        }
    }

    /// Rotates `[batch, heads, length, head_size]`; `length` must be that of the window.
    pub(crate) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }

    /// The same tables as constants of an autodiff graph.
    pub(crate) fn autodiff(self) -> Self {
        Self { cos: self.cos.autodiff(), sin: self.sin.autodiff() }
    }
}
