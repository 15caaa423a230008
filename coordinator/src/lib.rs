//! Rounds, plans, server optimiser and publication of adapters.
