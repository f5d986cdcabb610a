"""Admin: sagas, parked deliveries and the audit, to look at and to act on.

Django imports this module to find what is registered, so it imports each of them.
"""

from boundary.django.admin.audit_admin import ActAdmin
from boundary.django.admin.delivery_admin import DeliveryAdmin
from boundary.django.admin.saga_admin import SagaAdmin

__all__ = ["ActAdmin", "DeliveryAdmin", "SagaAdmin"]
