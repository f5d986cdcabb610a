"""Pages of the shop, and the admin."""

from django.contrib import admin
from django.urls import path

from examples.django_shop.shop import views

urlpatterns = [
    path("", views.counter, name="counter"),
    path("orders/<str:number>/", views.order, name="order"),
    path("orders/<str:number>/status.json", views.status, name="status"),
    path("admin/", admin.site.urls),
]
