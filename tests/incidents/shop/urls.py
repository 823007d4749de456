"""The shop's pages beside those of the demo site."""

from django.urls import include, path

from tests.incidents.shop import views

urlpatterns = [
    path("", include("core.urls")),
    path("shop/newest/", views.newest),
    path("shop/orders/<int:customer>/", views.of_customer),
    path("shop/pay/", views.pay),
    path("shop/reserve/", views.reserve),
]
