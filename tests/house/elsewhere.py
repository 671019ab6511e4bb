ELSEWHERE: dict[str, tuple[str, str]] = {}
