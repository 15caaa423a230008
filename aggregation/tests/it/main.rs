//! Integration tests of the whole protocol: honest rounds, hostile servers, hostile clients, vectors.
