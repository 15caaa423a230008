//! Wire messages of Tacit and their conversion to domain types; the only code that knows protobuf.
