//! How a simulation says what it is doing. The library must never write to a terminal itself.

/// Hears of progress; all methods are called from several threads.
pub trait Progress: Sync {
    /// A piece of work of `total` steps begins; it replaces the one before.
    fn begin(&self, label: &str, total: usize);
    /// One step is done.
    fn advance(&self);
    /// The work is done.
    fn end(&self);
    /// Something worth a line of its own.
    fn line(&self, text: &str);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _label: &str, _total: usize) {}
    fn advance(&self) {}
    fn end(&self) {}
    fn line(&self, _text: &str) {}
}
