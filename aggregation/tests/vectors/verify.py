#!/usr/bin/env python3
"""Recomputes kat.json from its inputs, independently of the Rust code.

Written from docs/protocol.md and the RFCs: Ristretto255 and Shamir in plain integers here; X25519, Ed25519, AES and HKDF from
the package `cryptography`. Prints how many answers agree, and fails on the first that does not.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install cryptography
    /tmp/venv/bin/python aggregation/tests/vectors/verify.py
"""

import json
import pathlib
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)  # a square root of -1
PROTOCOL = b"tacit/secagg/v1"
SUITE = b"ristretto255-feldman/x25519/aes-256-gcm/aes-256-ctr/hkdf-sha256/ed25519"

checked = 0


def same(name, got, expected):
    global checked
    got = got.hex() if isinstance(got, bytes) else got
    assert got == expected, f"{name}: {got} is not {expected}"
    checked += 1


# Ristretto255 (RFC 9496, section 4): points of edwards25519 in extended coordinates.


def sqrt_ratio(u, v):
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    if check in (-u % P, -u * ROOT % P):
        r = r * ROOT % P
    return check in (u % P, -u % P), P - r if r % 2 else r


INVSQRT_A_MINUS_D = sqrt_ratio(1, (-1 - D) % P)[1]
BASE_Y = 4 * pow(5, -1, P) % P
BASE_X = sqrt_ratio((BASE_Y**2 - 1) % P, (D * BASE_Y**2 + 1) % P)[1]
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    k, l = (y1 - x1) * (y2 - x2), (y1 + x1) * (y2 + x2)
    m, n = 2 * D * t1 * t2, 2 * z1 * z2
    e, f, g, h = l - k, n - m, n + m, l + k
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    product = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            product = add(product, point)
        point, scalar = add(point, point), scalar >> 1
    return product


def encode(point):
    x, y, z, t = point
    u1, u2 = (z + y) * (z - y) % P, x * y % P
    inverse = sqrt_ratio(1, u1 * u2 * u2 % P)[1]
    d1, d2 = inverse * u1 % P, inverse * u2 % P
    z_inverse = d1 * d2 * t % P
    d_inverse = d2
    if t * z_inverse % P % 2:
        x, y, d_inverse = y * ROOT % P, x * ROOT % P, d1 * INVSQRT_A_MINUS_D % P
    if x * z_inverse % P % 2:
        y = -y % P
    s = d_inverse * (z - y) % P
    return (P - s if s % 2 else s).to_bytes(32, "little")


def decode(data):
    s = int.from_bytes(data, "little")
    assert s < P and s % 2 == 0
    u1, u2 = 1 - s * s, 1 + s * s
    v = (-(D * u1 * u1) - u2 * u2) % P
    square, inverse = sqrt_ratio(1, v * u2 * u2 % P)
    dx, dy = inverse * u2 % P, inverse * inverse * u2 * v % P
    x = 2 * s * dx % P
    x = P - x if x % 2 else x
    y = u1 * dy % P
    assert square and x * y % P % 2 == 0 and y != 0
    return x, y, 1, x * y % P


# The protocol's own forms.


def fields(purpose, *values):
    parts = [PROTOCOL, purpose] + [v.to_bytes(8, "big") if isinstance(v, int) else v for v in values]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def derive(context, secret, label):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=context, info=label.encode()).derive(secret)


def keystream(key, length):
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(length))


def scalars(key, count):
    stream = keystream(key, 64 * count)
    return [int.from_bytes(stream[64 * i : 64 * i + 64], "little") % ORDER for i in range(count)]


def leaf(data):
    return sha256(b"\0" + data).digest()


def root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + root(leaves[:half]) + root(leaves[half:])).digest()


def path(leaves, place):
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if place < half:
        return path(leaves[:half], place) + [root(leaves[half:])]
    return path(leaves[half:], place - half) + [root(leaves[:half])]


def evaluate(polynomial, x):
    return sum(coefficient * x**power for power, coefficient in enumerate(polynomial)) % ORDER


def interpolate(points):
    total = 0
    for x, y in points:
        numerator = denominator = 1
        for other, _ in points:
            if other != x:
                numerator, denominator = numerator * other % ORDER, denominator * (other - x) % ORDER
        total += y * numerator * pow(denominator, -1, ORDER)
    return total % ORDER


def scalar(number):
    return number.to_bytes(32, "little")


def number(text):
    return int.from_bytes(bytes.fromhex(text), "little")


def lanes(key, bits, dimension):
    width = 2 if bits <= 16 else 4
    stream = keystream(key, width * dimension)
    return [int.from_bytes(stream[width * i : width * i + width], "little") for i in range(dimension)]


def pack(values, bits):
    held = sum(value << bits * place for place, value in enumerate(values))
    return held.to_bytes((bits * len(values) + 7) // 8, "little")


def bitmap(members, indices):
    return sum(1 << index for index in indices).to_bytes((members + 7) // 8, "little")


def ring(seed, n):
    block = Cipher(algorithms.AES(seed), modes.ECB()).encryptor()
    return [i for _, i in sorted((block.update(i.to_bytes(16, "big")), i) for i in range(n))]


def sign(secret, payload):
    return Ed25519PrivateKey.from_private_bytes(secret).sign(payload)


def public_key(secret):
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def check_round(kat):
    terms, params = kat["terms"], kat["params"]
    unhex = bytes.fromhex
    task, plan, head = terms["task"].encode(), unhex(terms["plan"]), unhex(terms["ledger_head"])
    parents = [unhex(parent) for parent in terms["parents"]]
    n, t, d, b = params["n"], params["threshold"], terms["dimension"], terms["bits"]
    issuer_secret = unhex(kat["identity_root_secret"])
    issuer = public_key(issuer_secret)

    clients = []
    for stored in kat["clients"]:
        client, identity = int(stored["client"]), unhex(stored["identity_secret"])
        secrets = unhex(stored["round_secrets"])
        channel, mask, seed, nonce = (secrets[32 * i : 32 * i + 32] for i in range(4))
        secret = int.from_bytes(mask, "little")
        assert secret < ORDER
        mask_key = encode(multiply(secret, BASE))
        channel_key = X25519PrivateKey.from_private_bytes(channel).public_key().public_bytes_raw()
        same("channel key", channel_key, stored["channel_key"])
        same("mask key", mask_key, stored["mask_key"])
        not_after = int.from_bytes(unhex(stored["certificate_payload"])[-44:-36], "big")
        certificate = fields(b"certificate", client, public_key(identity), not_after, issuer)
        same("certificate", certificate, stored["certificate_payload"])
        same("certificate's signature", sign(issuer_secret, certificate), stored["certificate_signature"])
        advert = fields(
            b"advert", client, task, terms["round"], plan, head, parents[0], channel_key, mask_key, nonce
        )
        same("advert", advert, stored["advert_payload"])
        signature = sign(identity, advert)
        same("advert's signature", signature, stored["advert_signature"])
        digest = fields(b"advert-digest", advert, signature, certificate, sign(issuer_secret, certificate))
        digest = sha256(digest).digest()
        same("advert's digest", digest, stored["advert_digest"])
        clients.append(
            dict(id=client, identity=identity, channel=channel, channel_key=channel_key, secret=secret)
            | dict(mask_key=mask_key, seed=seed, digest=digest, stored=stored)
        )

    cohort_root = root([leaf(fields(b"cohort-entry", c["id"], c["digest"])) for c in clients])
    same("cohort root", cohort_root, kat["cohort_root"])
    parents_digest = sha256(fields(b"parents", *parents)).digest()
    numbers = (n, params["n_min"], params["degree"], t, d, b)
    context = fields(SUITE, task, terms["round"], plan, parents_digest, head, *numbers, cohort_root)
    context = sha256(context).digest()
    same("context", context, kat["context"])
    same("graph seed", derive(context, cohort_root, "graph"), kat["graph_seed"])
    same("rotation seed", derive(context, cohort_root, "rotation"), kat["rotation_seed"])

    survivors = [int(i) for i in range(n) if number(kat["survived"]) >> i & 1]
    shared = [int(i) for i in range(n) if number(kat["shared"]) >> i & 1]
    same("shared", bitmap(n, shared), kat["shared"])
    same("survived", bitmap(n, survivors), kat["survived"])
    maps = fields(b"confirm", context, bitmap(n, shared), bitmap(n, survivors))
    same("maps", maps, kat["confirm_payload"])

    for index, c in enumerate(clients):
        stored = c["stored"]
        drawn = scalars(derive(context, c["seed"], "polynomials"), 2 * t - 1)
        c["seed_scalar"] = drawn[0]
        c["mask_polynomial"] = [c["secret"]] + drawn[1:t]
        c["self_polynomial"] = [drawn[0]] + drawn[t:]
        same("self-mask seed", scalar(drawn[0]), stored["self_mask_seed"])
        for kind, listed in (("mask_key", drawn[1:t]), ("self_mask", drawn[t:])):
            same("coefficients", [scalar(a).hex() for a in listed], stored["coefficients"][kind])
        points = [
            [encode(multiply(a, BASE)) for a in c[kind]] for kind in ("mask_polynomial", "self_polynomial")
        ]
        for kind, list_ in zip(("mask_key", "self_mask"), points):
            same("commitments", [point.hex() for point in list_], stored["commitments"][kind])
        c["self_key"] = derive(context, scalar(drawn[0]), "self-mask")
        same("self-mask key", c["self_key"], stored["self_mask_key"])
        leaves, c["pairs"] = [], {}
        neighbours = [(i, other) for i, other in enumerate(clients) if i != index]
        for (place, other), sent in zip(neighbours, stored["neighbours"], strict=True):
            theirs = X25519PublicKey.from_public_bytes(other["channel_key"])
            agreed = X25519PrivateKey.from_private_bytes(c["channel"]).exchange(theirs)
            key = derive(context, agreed, f"share-enc|{c['id']}|{other['id']}")
            shares = [evaluate(c[kind], place + 1) for kind in ("self_polynomial", "mask_polynomial")]
            same("share of b", scalar(shares[0]), sent["share_of_self_mask"])
            same("share of s", scalar(shares[1]), sent["share_of_mask_key"])
            same("envelope key", key, sent["envelope_key"])
            sealed = AESGCM(key).encrypt(bytes(12), scalar(shares[0]) + scalar(shares[1]), context)
            same("envelope", sealed, sent["ciphertext"])
            leaves.append(leaf(fields(b"envelope", other["id"], sealed)))
            product = encode(multiply(c["secret"], decode(other["mask_key"])))
            low, high = sorted((c["id"], other["id"]))
            c["pairs"][place] = derive(context, product, f"pair-mask|{low}|{high}")
            same("pair mask key", c["pairs"][place], sent["pair_mask_key"])
        digest = sha256(fields(b"commitments", *(b"".join(list_) for list_ in points))).digest()
        share = fields(b"share", context, c["id"], digest, root(leaves))
        same("share message", share, stored["share_payload"])
        same("its signature", sign(c["identity"], share), stored["share_signature"])

    for index, c in enumerate(clients):
        stored, sum_ = c["stored"], list(c["stored"]["input"])
        masks = [(1, c["self_key"])]
        masks += [(1 if c["id"] < clients[i]["id"] else -1, key) for i, key in c["pairs"].items()]
        for sign_, key in masks:
            sum_ = [(a + sign_ * lane) % 2**b for a, lane in zip(sum_, lanes(key, b, d))]
        packed = pack(sum_, b)
        same("masked vector", packed, stored["masked"])
        header = fields(b"masked", context, c["id"], len(packed), sha256(packed).digest(), b"")
        same("header", header, stored["masked_payload"])
        same("its signature", sign(c["identity"], header), stored["masked_signature"])
        if index not in survivors:
            continue
        same("confirmation", sign(c["identity"], maps), stored["confirm_signature"])
        handed = []
        for place, other in enumerate(clients):
            if place != index:
                kind = "self-mask" if place in survivors else "mask-key"
                polynomial = other["self_polynomial" if place in survivors else "mask_polynomial"]
                handed.append((other["id"], kind.encode(), scalar(evaluate(polynomial, index + 1))))
        listed = [dict(of=str(of), kind=kind.decode(), share=share.hex()) for of, kind, share in handed]
        same("shares handed over", listed, stored["unmask_shares"])
        digest = sha256(fields(b"unmask-shares", *(part for share in handed for part in share))).digest()
        unmask = fields(b"unmask", context, c["id"], digest)
        same("answer", unmask, stored["unmask_payload"])
        same("its signature", sign(c["identity"], unmask), stored["unmask_signature"])

    for owner in clients:
        points = [
            (holder + 1, number(share["share"]))
            for holder, c in enumerate(clients)
            for share in c["stored"].get("unmask_shares", [])
            if int(share["of"]) == owner["id"]
        ]
        survived = clients.index(owner) in survivors
        secret = owner["seed_scalar" if survived else "secret"]
        same("recovered secret", interpolate(points[:t]), secret)
    plain = [sum(clients[i]["stored"]["input"][j] for i in survivors) % 2**b for j in range(d)]
    same("sum", plain, kat["sum"])
    return context


def check_pieces(kat, context):
    pieces, unhex = kat["pieces"], bytes.fromhex
    for entry in pieces["kdf"]["keys"]:
        same(entry["label"], derive(context, unhex(pieces["kdf"]["secret"]), entry["label"]), entry["key"])
    shamir = pieces["shamir"]
    polynomial = scalars(unhex(shamir["stream_key"]), 3)
    same("coefficients", [scalar(a).hex() for a in polynomial], shamir["coefficients"])
    same("commitments", [encode(multiply(a, BASE)).hex() for a in polynomial], shamir["commitments"])
    for share in shamir["shares"]:
        same("share", scalar(evaluate(polynomial, share["index"] + 1)), share["share"])
    mask = pieces["mask"]
    cases = (("bits_16", 16, 1), ("bits_12_subtracted", 12, -1), ("bits_20", 20, 1), ("bits_32", 32, 1))
    for name, bits, sign_ in cases:
        same(name, [sign_ * lane % 2**bits for lane in lanes(unhex(mask["key"]), bits, 9)], mask[name])
    graph = pieces["graph"]
    same("ring", ring(unhex(graph["seed"]), graph["n"]), graph["ring"])


def check_forms(kat, context):
    forms, unhex = kat["forms"], bytes.fromhex
    for case in forms["packed"]:
        same(f"{case['bits']} bits", pack(case["values"], case["bits"]), case["packed"])
    for case in forms["bitmaps"]:
        same("bitmap", bitmap(case["members"], case["indices"]), case["bytes"])
    for tree in forms["trees"]:
        leaves = [leaf(unhex(data)) for data in tree["leaves"]]
        same("root", root(leaves), tree["root"])
        for place, siblings in enumerate(tree["paths"]):
            same("path", [sibling.hex() for sibling in path(leaves, place)], siblings)
    cohort = forms["cohort"]
    leaves = [
        leaf(fields(b"cohort-entry", int(entry["client"]), unhex(entry["advert_digest"])))
        for entry in cohort["entries"]
    ]
    same("cohort leaves", [digest.hex() for digest in leaves], [entry["leaf"] for entry in cohort["entries"]])
    same("cohort root", root(leaves), cohort["root"])
    message = forms["share_message"]
    points = [b"".join(map(unhex, message["commitments"][kind])) for kind in ("mask_key", "self_mask")]
    digest = sha256(fields(b"commitments", *points)).digest()
    same("commitments' digest", digest, message["commitments_digest"])
    envelopes = [
        leaf(fields(b"envelope", int(envelope["to"]), unhex(envelope["ciphertext"])))
        for envelope in message["envelopes"]
    ]
    listed = [envelope["leaf"] for envelope in message["envelopes"]]
    same("envelopes' leaves", [digest.hex() for digest in envelopes], listed)
    same("envelopes' root", root(envelopes), message["envelopes_root"])
    share = fields(b"share", context, int(message["client"]), digest, root(envelopes))
    same("share message", share, message["payload"])
    header = forms["masked_header"]
    refused = b"".join(int(client).to_bytes(8, "big") for client in header["refused"])
    masked = fields(b"masked", context, 3, header["length"], unhex(header["digest"]), refused)
    same("refusing header", masked, header["payload"])
    seal = forms["seal"]
    sender = X25519PrivateKey.from_private_bytes(unhex(seal["secret_of_sender"]))
    receiver = X25519PrivateKey.from_private_bytes(unhex(seal["secret_of_receiver"]))
    agreed = sender.exchange(receiver.public_key())
    key = derive(context, agreed, f"share-enc|{seal['from']}|{seal['to']}")
    same("sealing key", key, seal["sealing_key"])
    same("opening key", derive(context, agreed, f"share-enc|{seal['to']}|{seal['from']}"), seal["opening_key"])
    plain = unhex(seal["share_of_self_mask"]) + unhex(seal["share_of_mask_key"])
    same("seal", AESGCM(key).encrypt(bytes(12), plain, context), seal["ciphertext"])
    keys = forms["mask_keys"]
    low, high = sorted((int(keys["own"]), int(keys["other"])))
    product = encode(multiply(number(keys["secret"]) * number(keys["other_secret"]) % ORDER, BASE))
    same("public", encode(multiply(number(keys["secret"]), BASE)), keys["public"])
    same("other public", encode(multiply(number(keys["other_secret"]), BASE)), keys["other_public"])
    same("pair mask key", derive(context, product, f"pair-mask|{low}|{high}"), keys["pair_mask_key"])
    same("self-mask key", derive(context, unhex(keys["secret"]), "self-mask"), keys["self_mask_key"])
    check = forms["share_check"]
    stream = keystream(unhex(check["stream_key"]), 48)
    same("weights", [stream[16 * i : 16 * i + 16].hex() for i in range(3)], check["weights"])
    # The contexts: one, and one for each field that changes.
    plan, head, cohort_root, one, two = (bytes([byte] * 32) for byte in (1, 4, 0x55, 2, 3))
    plain = dict(task=b"rust-completion", round=7, plan=plan, parents=(one, two), ledger_head=head)
    plain |= dict(n=256, n_min=231, degree=60, threshold=47, dimension=1000, bits=16, cohort_root=cohort_root)
    changes = {
        "nothing": {},
        "task": dict(task=b"other"),
        "plan": dict(plan=plan[:31] + b"\0"),
        "parents": dict(parents=(one,)),
        "ledger_head": dict(ledger_head=b"\5" + head[1:]),
        "cohort_root": dict(cohort_root=b"\x54" + cohort_root[1:]),
        "n and n_min exchanged": dict(n=231, n_min=256),
    }
    changes |= {name: {name: plain[name] + 1} for name in ("round", "n", "n_min", "threshold", "dimension", "bits")}
    changes["degree"] = dict(degree=62)
    for case in forms["contexts"]:
        values = plain | changes.pop(case["changed"])
        values["parents"] = sha256(fields(b"parents", *values["parents"])).digest()
        same(case["changed"], sha256(fields(SUITE, *values.values())).digest(), case["context"])
    assert not changes


def check_root(forms):
    """What the identity root signs, and who is eligible."""
    unhex, secret = bytes.fromhex, bytes.fromhex(forms["secret"])
    revoked = forms["revocations"]
    numbers = [int(client) for client in revoked["clients"]]
    assert numbers == sorted(set(numbers))
    payload = fields(b"revocations", revoked["number"], *numbers)
    same("revocations", payload, revoked["payload"])
    same("revocations' signature", sign(secret, payload), revoked["signature"])
    roster = forms["roster"]
    members = [int(member["client"]) for member in roster["members"]]
    assert members == sorted(set(members))
    leaves = [leaf(member.to_bytes(8, "big")) for member in members]
    same("roster's root", root(leaves), roster["root"])
    terms = roster["not_before"], roster["not_after"], roster["period_seconds"], int(roster["rate"])
    payload = fields(
        b"roster", roster["epoch"], unhex(roster["root"]), len(members), *terms, unhex(roster["seed"])
    )
    same("roster", payload, roster["payload"])
    digest = sha256(payload).digest()
    same("roster's digest", digest, roster["digest"])
    same("roster's signature", sign(secret, payload), roster["signature"])
    for place, member in enumerate(roster["members"]):
        assert member["index"] == place
        same("membership", [sibling.hex() for sibling in path(leaves, place)], member["path"])
        ticket = sha256(fields(b"eligible", digest, roster["period"], members[place])).digest()
        same("ticket", ticket, member["ticket"])
        assert member["drawn"] == (int.from_bytes(ticket, "big") < (int(roster["rate"]) + 1) << 192)


def main():
    kat = json.loads(pathlib.Path(__file__).with_name("kat.json").read_text())
    assert encode(multiply(ORDER, BASE)) == bytes(32) and decode(encode(BASE)) is not None
    context = check_round(kat["round"])
    check_pieces(kat, context)
    check_forms(kat, context)
    check_root(kat["forms"]["root"])
    print(f"{checked} answers agree")


if __name__ == "__main__":
    main()
