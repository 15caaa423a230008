//! A fleet in one process: the same rounds as production, in virtual time.
