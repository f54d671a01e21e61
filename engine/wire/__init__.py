"""How do the domain values become protobuf messages, and back?

One module a family of values; each pair is named ``…_to_wire`` / ``…_from_wire``. Nothing here knows gRPC, the server
or the client. What comes from outside is checked while it is read: enums must be specified, numbers finite, byte
lengths right.
"""
