//! A whole crisis structure on one machine, driven by a scenario.
