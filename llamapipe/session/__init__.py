"""The Python API: wires everything."""
