CANNOT_BE_ASKED: dict[str, str] = {}
