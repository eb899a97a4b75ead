//! May it go there: numbered rules over label, clearance and register.
