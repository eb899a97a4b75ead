//! Who a certificate names; keys and signatures.
