"""The bundled pair of models: how it was trained, exported and measured. See echo_proxy/assets/pair/README.md."""
