#!/usr/bin/env python3
"""Writes phone_metadata.bin: the numbering plans of libphonenumber, as its `PhoneMetadataCollection`.

The crate rlibphonenumber contains an older version. To update the plans:

    pip install phonenumbers==<version> && referral-core/data/phone_metadata.py

The formats of numbers are omitted, because the service only parses numbers and writes them as E.164.
"""

from pathlib import Path

import phonenumbers
from phonenumbers.phonemetadata import PhoneMetadata

# Fields of the message PhoneMetadata. Descriptions of lines that are not in this list are not used.
DESCRIPTIONS = {
    "general_desc": 1, "fixed_line": 2, "mobile": 3, "toll_free": 4, "premium_rate": 5, "shared_cost": 6,
    "personal_number": 7, "voip": 8, "pager": 21, "uan": 25, "voicemail": 28,
}
PATTERNS = {"international_prefix": 11, "national_prefix_for_parsing": 15, "leading_digits": 23}
NATIONAL_PREFIX, NATIONAL_PREFIX_TRANSFORM_RULE = 12, 16
ID, COUNTRY_CODE, SAME_MOBILE_AND_FIXED_LINE_PATTERN, MAIN_COUNTRY_FOR_CODE = 9, 10, 18, 22


def varint(value):
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number(field, value):
    return varint(field << 3) + varint(int(value))


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def pattern(field, value):
    """Encodes a pattern, anchored as rlibphonenumber requires it."""
    return b"" if value is None else data(field, f"^(?:{value})$")


def description(desc):
    if desc is None or desc.national_number_pattern is None:
        return number(9, -1)
    encoded = pattern(2, desc.national_number_pattern)
    if desc.example_number is not None:
        encoded += data(6, desc.example_number)
    for length in desc.possible_length:
        encoded += number(9, length)
    for length in desc.possible_length_local_only:
        encoded += number(10, length)
    return encoded


def metadata(plan):
    encoded = b"".join(data(field, description(getattr(plan, name))) for name, field in DESCRIPTIONS.items())
    encoded += data(ID, plan.id) + number(COUNTRY_CODE, plan.country_code)
    for name, field in PATTERNS.items():
        encoded += pattern(field, getattr(plan, name))
    if plan.national_prefix is not None:
        encoded += data(NATIONAL_PREFIX, plan.national_prefix)
    if plan.national_prefix_transform_rule is not None:
        # Python writes the groups of a replacement as \\1, Rust as $1.
        encoded += data(NATIONAL_PREFIX_TRANSFORM_RULE, plan.national_prefix_transform_rule.replace("\\", "$"))
    mobile, fixed_line = (getattr(line, "national_number_pattern", None) for line in (plan.mobile, plan.fixed_line))
    if mobile is not None and mobile == fixed_line:
        encoded += number(SAME_MOBILE_AND_FIXED_LINE_PATTERN, True)
    if plan.main_country_for_code:
        encoded += number(MAIN_COUNTRY_FOR_CODE, True)
    return encoded


def main():
    collection = b""
    # The first region of those that share a calling code is the main one.
    for code, regions in sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()):
        for region in regions:
            plan = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
            collection += data(1, metadata(plan))
    path = Path(__file__).with_name("phone_metadata.bin")
    path.write_bytes(collection)
    print(f"{path.name}: libphonenumber {phonenumbers.__version__}, {len(collection)} bytes")


if __name__ == "__main__":
    main()
