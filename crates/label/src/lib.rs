//! Who may read: names, confidentiality labels and clearances.
