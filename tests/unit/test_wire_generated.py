"""The committed generated code is what the .proto says, and the .proto keeps its rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from engine.server.methods import METHODS, SERVICE
from engine.v1 import engine_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]


def test_generated_code_is_current(tmp_path: Path):
    protoc = pytest.importorskip("grpc_tools.protoc")
    source = ROOT / "proto" / "engine" / "v1" / "engine.proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    assert protoc.main([*arguments, *outputs, str(source)]) == 0
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*.py*"))
    assert [path.name for path in made] == ["engine_pb2.py", "engine_pb2.pyi", "engine_pb2_grpc.py"]
    for path in made:
        assert (tmp_path / path).read_bytes() == (ROOT / path).read_bytes(), f"{path} is stale: run make proto"


def test_every_enum_starts_with_unspecified():
    for enum in pb.DESCRIPTOR.enum_types_by_name.values():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED"), enum.name


def test_every_method_has_a_role_a_pool_and_a_comment():
    assert sorted(METHODS) == sorted(method.name for method in SERVICE.methods)
    proto = (ROOT / "proto" / "engine" / "v1" / "engine.proto").read_text(encoding="utf-8")
    for name, method in METHODS.items():
        comment = proto.split(f"rpc {name}(")[0].rsplit("\n\n", 1)[-1].rsplit("rpc ", 1)[-1]
        assert f"Role: {method.role.name.lower()}." in comment, name


def test_every_message_is_used():
    proto = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(proto)
    used = {method.input_type for service in proto.service for method in service.method}
    used |= {method.output_type for service in proto.service for method in service.method}
    for message in proto.message_type:
        used |= {field.type_name for field in message.field}
        used |= {field.type_name for nested in message.nested_type for field in nested.field}
    declared = {f".engine.v1.{message.name}" for message in proto.message_type}
    assert declared <= used
