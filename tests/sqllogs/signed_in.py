"""A middleware for tests in a browser, which cannot log in: everybody is the superuser, and CSP is strict."""

from django.contrib.auth.models import User

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'"


class SignedIn:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        request.user = User.objects.get(is_superuser=True)
        response = self.get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response
