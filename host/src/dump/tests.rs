//! Tests of the whole layer on files.
