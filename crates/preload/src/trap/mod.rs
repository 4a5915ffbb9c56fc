//! Registers of devices that a program reaches by plain loads and stores.
