//! Who is on the line: QUIC with mutual TLS 1.3.
