"""Open standards as a door: WHIP (RFC 9725) publishes a camera, WHEP (draft-ietf-wish-whep)
watches the edited video, and JSON over HTTP carries the commands.

`negotiation` is what is said in headers and bodies, and pure; `resources` keeps the peers that
offers made; `streams` finds sessions by id or by a name that its user chose, `names` says whose
names these are; `endpoints` and `commands` are the HTTP routes. `ingress` puts it together.
"""
