from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from lab.services.apigateway.api import Integration, Method
from lab.services.apigateway.http import target_of
from lab.services.apigateway.routing import RoutingTable


def table(*routes):
    return RoutingTable(
        Method(resource_id=path, resource_path=path, http_method=verb, integration=Integration("lambda_proxy"))
        for verb, path in routes
    )


def found(routes, verb, path):
    match = routes.match(verb, path)
    return match and (match.method.http_method, match.method.resource_path, match.path_parameters)


def test_a_static_segment_wins_over_a_parameter_and_that_over_a_greedy_one():
    routes = table(("GET", "/{proxy+}"), ("GET", "/{model}"), ("GET", "/health"))
    assert found(routes, "GET", "/health") == ("GET", "/health", {})
    assert found(routes, "GET", "/mobilenet") == ("GET", "/{model}", {"model": "mobilenet"})
    assert found(routes, "GET", "/a/b/c") == ("GET", "/{proxy+}", {"proxy": "a/b/c"})


def test_a_dead_end_falls_back_to_the_next_kind_of_segment():
    routes = table(("GET", "/a/b"), ("GET", "/{x}/c"), ("GET", "/{proxy+}"))
    assert found(routes, "GET", "/a/c") == ("GET", "/{x}/c", {"x": "a"})
    assert found(routes, "GET", "/a/d") == ("GET", "/{proxy+}", {"proxy": "a/d"})


def test_the_method_itself_wins_over_any():
    routes = table(("ANY", "/x"), ("GET", "/x"))
    assert found(routes, "GET", "/x")[0] == "GET"
    assert found(routes, "PATCH", "/x")[0] == "ANY"


def test_a_greedy_parameter_needs_at_least_one_segment():
    assert found(table(("ANY", "/{proxy+}")), "GET", "/") is None


def test_a_trailing_slash_does_not_count():
    assert found(table(("GET", "/x")), "GET", "/x/") == ("GET", "/x", {})


def test_an_intermediate_resource_without_a_method_does_not_answer():
    assert found(table(("GET", "/a/b")), "GET", "/a") is None


segments = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), min_size=1, max_size=12)


@given(model=segments, memory=segments)
@example(model="test+alias", memory="id/100")  # sent as test%2Balias and id%2F100
def test_path_parameters_are_passed_as_sent(model, memory):
    routes = table(("GET", "/{model}/{memory}"))
    path = f"/{quote(model, safe='')}/{quote(memory, safe='')}"
    assert found(routes, "GET", path)[2] == {"model": quote(model, safe=""), "memory": quote(memory, safe="")}
    greedy = table(("GET", "/{proxy+}"))
    assert found(greedy, "GET", path)[2] == {"proxy": path.removeprefix("/")}


@given(st.text(max_size=40))
def test_no_path_breaks_the_table(path):
    table(("GET", "/{a}/x"), ("GET", "/{a}/{b}"), ("ANY", "/{proxy+}")).match("GET", path)


def test_a_target_is_read_from_path_or_host():
    by_path = target_of("localhost:4566", "/_aws/execute-api/abc123/v1/m/512")
    by_host = target_of("abc123.execute-api.localhost:4566", "/v1/m/512")
    assert by_path == by_host
    assert (by_path.api_id, by_path.stage, by_path.raw_path) == ("abc123", "v1", "/m/512")
    assert target_of("localhost:4566", "/v1/m/512") is None
    assert target_of("abc.execute-api.localhost.evil.example", "/v1") is None
    assert target_of("abc.execute-api.us-east-1.localhost", "/v1").stage == "v1"
