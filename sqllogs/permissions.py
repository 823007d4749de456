"""Let readers in, by what `sqllogs.authentication` has found out about them."""

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from sqllogs.authentication import VIEW, Reader


class MayRead(BasePermission):
    """Every view of this package asks for it; an unknown reader gets 401, a known one 403."""

    message = f"The SQL log is for staff with the permission {VIEW}."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, Reader) and request.auth.may_read
