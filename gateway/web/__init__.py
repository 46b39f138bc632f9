"""The pages that the gateway serves: the playground at `/`, the operators' console at `/console`.

`dist/` is built from `sdk_adapters/web` (`make web`) and kept in the repository, so that neither
wheel nor image needs Node.
"""
