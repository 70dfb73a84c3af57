"""The admin endpoint: `/live`, `/ready` and `/metrics`.

Importing this package imports neither twisted.web nor prometheus_client: that happens where an endpoint is configured.
"""

from __future__ import annotations

from eventserver.admin.access import problems_of_admin
from eventserver.admin.service import AdminService
from eventserver.admin.status import IStatus

__all__ = ["AdminService", "IStatus", "problems_of_admin"]
