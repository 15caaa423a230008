//! Choice of the compute device by name, at run time.

use std::str::FromStr;

use burn::tensor::Device;

use crate::error::ModelError;

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    /// Portable CPU kernels; AVX-512 when the processor has it.
    #[default]
    Cpu,
    /// The first GPU that WebGPU offers; needs the `wgpu` feature.
    Gpu,
}

impl FromStr for Compute {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "gpu" if cfg!(feature = "wgpu") => Ok(Self::Gpu),
            other => Err(ModelError::Device(other.to_owned())),
        }
    }
}

impl Compute {
    /// Opens the device.
    ///
    /// # Errors
    /// When this build has no support for it.
    pub fn open(self) -> Result<Device, ModelError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "wgpu")]
            Self::Gpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(not(feature = "wgpu"))]
            Self::Gpu => Err(ModelError::Device("gpu".to_owned())),
        }
    }
}
