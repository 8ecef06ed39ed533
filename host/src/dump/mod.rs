//! Dump files.
