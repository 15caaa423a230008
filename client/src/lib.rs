//! The client: local training, contribution to a round, its own privacy budget.
