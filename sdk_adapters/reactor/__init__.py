"""The server side of the Reactor wire: unmodified `reactor-sdk` clients drive our sessions.

HTTP comes in through `http_routes`, `local_routes` and `uploads`; `sessions` keeps the
connections and negotiates their peers; `channels` holds the conversation of one
connection, whose words `wire` names, `wire_json` and `wire_protobuf` encode, `translate`
maps to the public contract and `replies` pairs with their requests. `schema` shows a
session and `openapi` what its model can do. `ingress` puts it together.
"""
