"""Message classes and enums made at import from kedge.binpb, as attributes of this module.

The descriptors live in a pool of their own: a second definition of package `inference` in the
default pool would end any process that also imports tritonclient.
"""

from importlib.resources import files

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def _load(descriptors: bytes) -> dict[str, object]:
    """Every top-level message class, enum and enum value of a FileDescriptorSet, by its name."""
    pool = descriptor_pool.DescriptorPool()
    names: dict[str, object] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
        descriptor = pool.FindFileByName(file.name)
        for name, message in descriptor.message_types_by_name.items():
            names[name] = message_factory.GetMessageClass(message)
        for name, enum in descriptor.enum_types_by_name.items():
            names[name] = EnumTypeWrapper(enum)
            names |= {value.name: value.number for value in enum.values}
    return names


globals().update(_load(files(__package__).joinpath("kedge.binpb").read_bytes()))
